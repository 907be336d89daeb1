"""What stands in a .tflite file: reading, metadata, self-test vectors, inspection."""
