"""A reference model compared with its variants on the same photos."""
