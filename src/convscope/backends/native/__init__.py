"""The native kernels, each with its reference in PyTorch or NumPy."""
