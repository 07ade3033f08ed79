"""The native kernels, each in one module with its reference implementation in PyTorch or NumPy."""
