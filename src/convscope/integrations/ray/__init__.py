"""Work on the machines of a Ray cluster; the extra `cluster` brings Ray. Only these modules import it."""
