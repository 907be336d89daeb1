"""Heat maps that a model file makes by itself."""
