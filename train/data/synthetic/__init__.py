"""Generated images: lesion-like datasets and non-lesion images."""
