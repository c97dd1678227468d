"""The command `renorm evaluate`."""
