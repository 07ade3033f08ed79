"""The layer records, run by PyTorch, by the native kernels, and as an ONNX graph."""
