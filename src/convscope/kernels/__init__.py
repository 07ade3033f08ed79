"""Fast kernels with their naive twins: each runs convscope-native where that is installed, else its twin."""
