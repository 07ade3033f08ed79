"""What can be classified: images, folders, patterns and archives; all become a sequence of images."""
