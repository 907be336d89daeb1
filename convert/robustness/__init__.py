"""Float and quantized models on disturbed photos."""
