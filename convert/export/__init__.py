"""From a trained or foreign model to a checked .tflite file."""
