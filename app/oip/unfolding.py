"""Compressed bodies, unfolded under a limit: a few bytes of them can hold gigabytes."""

from __future__ import annotations

import zlib

from app.errors import FieldError, MediaTypeError, TooLargeError

CODINGS = ("gzip", "deflate")

_GZIP, _ZLIB, _RAW = 31, 15, -15


def unfold(body: bytes, coding: str, most: int) -> bytes:
    """What ``body`` was before it was compressed with ``coding``, the value of a Content-Encoding header.

    Never more than ``most`` bytes are made, whatever the body claims.

    Raises:
        MediaTypeError: another coding than gzip and deflate, or several.
        FieldError: the body is not in that coding, is cut off, or goes on after its end.
        TooLargeError: it unfolds to more than ``most`` bytes.
    """
    coding = coding.strip().lower().removeprefix("x-")
    if coding not in CODINGS:
        raise MediaTypeError(
            f"bodies in coding {coding[:50]!r} are not read",
            hint="send gzip, deflate, or the body as it is",
            where="body",
        )
    # Deflate is zlib's format by the standard, and without its header by the habit of some clients.
    bits = _GZIP if coding == "gzip" else _ZLIB if body[:1] and body[0] & 15 == 8 else _RAW
    unfolding = zlib.decompressobj(bits)
    try:
        whole = unfolding.decompress(body, most + 1)
    except zlib.error as error:
        raise _damaged(coding, str(error)) from error
    if len(whole) > most:
        raise TooLargeError(
            f"the body unfolds to more than {most} bytes",
            hint="send fewer images at once, or raise RENORM_MAX_DECOMPRESSED_BYTES",
            where="body",
        )
    if not unfolding.eof:
        raise _damaged(coding, "it is cut off")
    if unfolding.unused_data:
        raise _damaged(coding, "it goes on after its end")
    return whole


def _damaged(coding: str, why: str) -> FieldError:
    return FieldError(f"the body is not {coding}: {why}", hint="compress it anew, or send it as it is", where="body")
