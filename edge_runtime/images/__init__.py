"""From the bytes of a photo to the pixels of the input tensor."""
