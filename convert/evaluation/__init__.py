"""One model file on labelled photos of any origin: `dermedge evaluate`."""
