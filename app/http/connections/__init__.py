"""Connections beneath HTTP: limits on their number, size and slowness, and how they are closed."""
