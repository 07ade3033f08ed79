"""Train, see, trust and ship convolutional image classifiers, on the CPU you already have."""
