"""Decode one encoded image into the pixels that a network sees, at a bounded cost."""

from app.images.cost import CHEAP_PIXELS, TINY_PIXELS, decode_bytes, is_cheap, is_tiny
from app.images.cutting import cut_pixels
from app.images.formats import ACCEPTED
from app.images.limits import ImageLimits
from app.images.reading import check_header, decode

__all__ = [
    "ACCEPTED",
    "CHEAP_PIXELS",
    "TINY_PIXELS",
    "ImageLimits",
    "check_header",
    "cut_pixels",
    "decode",
    "decode_bytes",
    "is_cheap",
    "is_tiny",
]
