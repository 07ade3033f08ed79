"""Architectures to frozen layer records with shapes and costs."""
