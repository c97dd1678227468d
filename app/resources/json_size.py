"""How much memory JSON takes once it is read: a text of a few bytes can become objects of many."""

from __future__ import annotations

_SIZES = {b",": 56, b":": 130, b"[": 104, b"{": 256}
"""Bytes that an object can take in Python for each of these characters of the text: its place in a list included, and
what the parser notes of it."""


def unpacked_bytes(raw: bytes) -> int:
    """At most so many bytes does the JSON text ``raw`` become, all strings in it and the images in those included.

    A bound and no estimate, also for text that is made to be costly: each value ends in one of a few characters.
    """
    # The text as characters, of which one beyond ASCII can make all four bytes wide; the strings in it; the images.
    text = 3 if raw.isascii() else 9
    return text * len(raw) + sum(size * raw.count(sign) for sign, size in _SIZES.items())
