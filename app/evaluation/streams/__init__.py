"""Streams: orders of images, and files of them."""
