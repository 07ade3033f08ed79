"""HTTP: connections, access, problem details and the description of the API."""
