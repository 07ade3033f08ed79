"""Fast kernels with their naive twins: each function here runs convscope-native where it is installed, else its twin."""
