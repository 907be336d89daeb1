"""Training: inputs, augmentation, loop, cross-validation."""
