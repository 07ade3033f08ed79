"""One line of the architecture language to frozen layer records, their shapes and their cost."""
