"""Training that starts from a pretrained backbone: frozen layers computed once, a head, and the last layers trained."""
