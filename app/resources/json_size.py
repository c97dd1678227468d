"""A bound on the memory of parsed JSON: a text of a few bytes can become large objects."""

from __future__ import annotations

_SIZES = {b",": 56, b":": 130, b"[": 104, b"{": 256}
"""Maximum bytes of a Python object for each of these characters of the text, including its place in a list and the
parser's bookkeeping."""


def unpacked_bytes(raw: bytes) -> int:
    """Return an upper bound on the bytes that the JSON text ``raw`` parses to, including strings and their images.

    The bound holds for malicious text too: each value ends in one of a few characters.
    """
    # The decoded text, where one character beyond ASCII can make all four bytes wide; its strings; their images.
    text = 3 if raw.isascii() else 9
    return text * len(raw) + sum(size * raw.count(sign) for sign, size in _SIZES.items())
