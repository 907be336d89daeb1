"""Photos and labels: readers, split, pixels, sampling. No TensorFlow."""
