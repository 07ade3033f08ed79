"""Pretrained backbones: networks that know something already, and where their weights come from."""
