"""Decompression of request bodies under a limit: a few compressed bytes can hold gigabytes."""

from __future__ import annotations

import zlib

from app.errors import FieldError, MediaTypeError, TooLargeError

CODINGS = ("gzip", "deflate")

_GZIP, _ZLIB, _RAW = 31, 15, -15


CHUNK_BYTES = 2**22
"""Bytes that are decompressed at a time."""


class Decompressor:
    """Decompress ``body`` chunk by chunk; ``coding`` is the value of its Content-Encoding header.

    It never makes more than ``max_bytes`` bytes in all, whatever the body claims.

    Raises:
        MediaTypeError: the coding is neither gzip nor deflate, or there are several.
    """

    def __init__(self, body: bytes, coding: str, max_bytes: int) -> None:
        self._coding = coding = coding.strip().lower().removeprefix("x-")
        if coding not in CODINGS:
            raise MediaTypeError(
                f"Content-Encoding {coding[:50]!r} is not supported",
                hint="use gzip or deflate, or send the body uncompressed",
                location="body",
            )
        # Deflate is zlib's format by the standard, and without its header by the habit of some clients.
        bits = _GZIP if coding == "gzip" else _ZLIB if body[:1] and body[0] & 15 == 8 else _RAW
        self._decompressor, self._pending, self._max_bytes, self._total = zlib.decompressobj(bits), body, max_bytes, 0

    def next_chunk(self) -> bytes:
        """Return the next bytes, at most `CHUNK_BYTES`; none at the end of a complete body.

        Raises:
            FieldError: the body is not in that coding, is truncated, or has bytes after its end.
            TooLargeError: it decompresses to more than ``max_bytes`` bytes.
        """
        if self._decompressor.eof:
            return self._end()
        try:
            chunk = self._decompressor.decompress(self._pending, min(CHUNK_BYTES, self._max_bytes + 1 - self._total))
        except zlib.error as error:
            raise _invalid(self._coding, str(error)) from error
        self._pending = self._decompressor.unconsumed_tail
        self._total += len(chunk)
        if self._total > self._max_bytes:
            raise TooLargeError(
                f"the decompressed body is larger than {self._max_bytes} bytes",
                hint="send fewer images at once, or raise RENORM_MAX_DECOMPRESSED_BYTES",
                location="body",
            )
        return chunk or self._end()

    def _end(self) -> bytes:
        if not self._decompressor.eof:
            raise _invalid(self._coding, "it is truncated")
        if self._decompressor.unused_data:
            raise _invalid(self._coding, "there are bytes after its end")
        return b""


def _invalid(coding: str, reason: str) -> FieldError:
    return FieldError(f"the body is not valid {coding}: {reason}", hint="send it uncompressed", location="body")
