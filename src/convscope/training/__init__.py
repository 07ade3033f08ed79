"""Data, network and recipe to weights."""
