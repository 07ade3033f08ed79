"""What a training needs around the loop: options, plan, hooks, calibration and results."""
