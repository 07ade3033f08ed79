"""EfficientNet-Lite0 for convscope, in `efficientnet-lite0.safetensors`. There is no code."""
