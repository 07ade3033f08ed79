"""What runs without PyTorch."""
