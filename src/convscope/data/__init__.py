"""Data sets: a name or a path -> uint8 images, labels, class names, a train and a test split."""
