"""Work on the machines of a Ray cluster; the extra `cluster` brings Ray."""
