"""One encoded image to the pixels that a network sees, at a cost that is bounded."""

from app.images.cutting import cut_pixels
from app.images.formats import ACCEPTED
from app.images.limits import Limits
from app.images.reading import decode

__all__ = ["ACCEPTED", "Limits", "cut_pixels", "decode"]
