"""`renorm evaluate`."""
