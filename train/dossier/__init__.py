"""The evidence report of a model."""
