"""Many trainings on the same data: cross-validation and search."""
