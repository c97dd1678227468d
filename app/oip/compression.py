"""Compressed bodies, unfolded under a limit: a few bytes of them can hold gigabytes."""

from __future__ import annotations

import zlib

from app.errors import FieldError, MediaTypeError, TooLargeError

CODINGS = ("gzip", "deflate")

_GZIP, _ZLIB, _RAW = 31, 15, -15


PART = 2**22
"""Bytes that are unfolded at a time."""


def unfold(body: bytes, coding: str, most: int) -> bytes:
    """What ``body`` was before it was compressed; see `Unfolding`."""
    unfolding, parts = Unfolding(body, coding, most), list[bytes]()
    while part := unfolding.next_part():
        parts.append(part)
    return b"".join(parts)


class Unfolding:
    """What ``body`` was before it was compressed with ``coding``, the value of a Content-Encoding header, in parts.

    Never more than ``most`` bytes are made in all, whatever the body claims.

    Raises:
        MediaTypeError: another coding than gzip and deflate, or several.
    """

    def __init__(self, body: bytes, coding: str, most: int) -> None:
        self._coding = coding = coding.strip().lower().removeprefix("x-")
        if coding not in CODINGS:
            raise MediaTypeError(
                f"bodies in coding {coding[:50]!r} are not read",
                hint="send gzip, deflate, or the body as it is",
                location="body",
            )
        # Deflate is zlib's format by the standard, and without its header by the habit of some clients.
        bits = _GZIP if coding == "gzip" else _ZLIB if body[:1] and body[0] & 15 == 8 else _RAW
        self._unfolding, self._rest, self._most, self._made = zlib.decompressobj(bits), body, most, 0

    def next_part(self) -> bytes:
        """The next bytes, at most `PART`; none at the end of a whole body.

        Raises:
            FieldError: the body is not in that coding, is cut off, or goes on after its end.
            TooLargeError: it unfolds to more than ``most`` bytes.
        """
        if self._unfolding.eof:
            return self._end()
        try:
            part = self._unfolding.decompress(self._rest, min(PART, self._most + 1 - self._made))
        except zlib.error as error:
            raise _damaged(self._coding, str(error)) from error
        self._rest = self._unfolding.unconsumed_tail
        self._made += len(part)
        if self._made > self._most:
            raise TooLargeError(
                f"the body unfolds to more than {self._most} bytes",
                hint="send fewer images at once, or raise RENORM_MAX_DECOMPRESSED_BYTES",
                location="body",
            )
        return part or self._end()

    def _end(self) -> bytes:
        if not self._unfolding.eof:
            raise _damaged(self._coding, "it is cut off")
        if self._unfolding.unused_data:
            raise _damaged(self._coding, "it goes on after its end")
        return b""


def _damaged(coding: str, why: str) -> FieldError:
    return FieldError(f"the body is not {coding}: {why}", hint="compress it anew, or send it as it is", location="body")
