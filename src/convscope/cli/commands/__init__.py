"""The commands, one module per group; `main` imports a module when one of its commands runs."""
