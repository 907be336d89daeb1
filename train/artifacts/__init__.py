"""Files that training leaves and conversion reads: run directory, manifest, label set. No TensorFlow."""
