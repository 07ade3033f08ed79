"""The ink of a gray image, and the frame in which all training images show theirs, in integers."""
