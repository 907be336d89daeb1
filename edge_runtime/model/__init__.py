"""Model files: container, operators, tensors, signature."""
