"""Labelled images in folders and arrays."""
