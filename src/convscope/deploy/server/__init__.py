"""The HTTP server: one model, read-only, on this machine unless asked otherwise."""
