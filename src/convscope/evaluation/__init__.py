"""How good a model is, how sure, and why."""
