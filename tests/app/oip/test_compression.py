from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FieldError, MediaTypeError, TooLargeError
from app.oip.compression import Decompressor


def decompress(body: bytes, coding: str, max_bytes: int) -> bytes:
    return b"".join(iter(Decompressor(body, coding, max_bytes).next_chunk, b""))


def raw_deflate(data: bytes) -> bytes:
    folding = zlib.compressobj(wbits=-15)
    return folding.compress(data) + folding.flush()


@given(st.binary(max_size=2000))
def test_decompression_inverts_gzip_and_deflate(data: bytes) -> None:
    assert decompress(gzip.compress(data), "gzip", 2000) == data
    assert decompress(gzip.compress(data), " X-GZIP", 2000) == data
    assert decompress(zlib.compress(data), "Deflate", 2000) == data
    assert decompress(raw_deflate(data), "deflate", 2000) == data


def test_the_limit_is_exact() -> None:
    assert len(decompress(gzip.compress(bytes(1000)), "gzip", 1000)) == 1000
    for body, coding in ((gzip.compress(bytes(1001)), "gzip"), (zlib.compress(bytes(1001)), "deflate")):
        with pytest.raises(TooLargeError, match="larger than 1000 bytes"):
            decompress(body, coding, 1000)


def test_decompression_bomb_stays_below_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="larger than 10000 bytes"):
            decompress(bomb, "gzip", 10_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"", "gzip"),
        (b"", "deflate"),
        (b"{}", "gzip"),
        (b"{}", "deflate"),
        (gzip.compress(b"abc")[:-3], "gzip"),
        (zlib.compress(b"abc")[:-3], "deflate"),
        (zlib.compress(b"abc") + b"more", "deflate"),
        (gzip.compress(b"abc") + b"more", "gzip"),
        (gzip.compress(b"abc") + gzip.compress(b"more"), "gzip"),
        (b"\x78\xff\xff", "deflate"),
    ],
    # What gzip makes holds the time at which it was made.
    ids=[
        *("nothing", "nothing-deflate", "json", "json-deflate", "cut", "cut-deflate"),
        *("followed-deflate", "followed", "two", "head-deflate"),
    ],
)
def test_invalid_compressed_body_is_refused(body: bytes, coding: str) -> None:
    with pytest.raises(FieldError, match=f"the body is not valid {coding}"):
        decompress(body, coding, 1000)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, deflate", "", "x-"])
def test_unsupported_content_encoding_is_refused(coding: str) -> None:
    with pytest.raises(MediaTypeError, match=r"Content-Encoding '.*' is not supported"):
        decompress(b"abc", coding, 1000)
