"""How folders of images are arranged, and how the files in them are found."""
