"""The Renorm server: streams of images in, adapted predictions out."""

__version__ = "0.1.0"
