"""What may be wrong with a data set, found before training."""
