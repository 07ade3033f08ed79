"""The layer records as an ONNX file."""
