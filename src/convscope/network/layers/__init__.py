"""Layer records, each with its shape rule and its keywords, by family."""
