"""Training by PyTorch on another machine."""
