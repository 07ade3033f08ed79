"""The layer records as PyTorch modules."""
