"""TIFF: one picture among its copies and masks, in every container, and kinds that are not read named as such."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from app.errors import ImageError
from app.images import ImageLimits, decode
from app.models.hosted import Preprocessing

HOW = Preprocessing(32, 32, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LIMITS = ImageLimits(1_000_000, 1_000_000)
NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE)
SMALL, MASK = PICTURE.resize((16, 16)), PICTURE.convert("1")

Page = tuple[Image.Image, dict[int, int]]


def tiff(*pages: Page) -> bytes:
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as writer:
        for image, tags in pages:
            image.save(writer, "TIFF", tiffinfo=tags)
            writer.newFrame()
    return buffer.getvalue()


def pixels(data: bytes) -> Any:
    return decode(data, HOW, LIMITS)


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([(PICTURE, {})], id="one page"),
        pytest.param([(PICTURE, {254: 0}), (SMALL, {254: 1})], id="overview"),
        pytest.param([(SMALL, {254: 1}), (PICTURE, {254: 0})], id="preview first"),
        pytest.param([(PICTURE, {254: 0}), (SMALL, {254: 1}), (MASK, {254: 4}), (MASK, {254: 5})], id="and masks"),
        pytest.param([(PICTURE, {254: 0}), (SMALL, {255: 2})], id="overview, told as TIFF 5 did"),
        pytest.param([(PICTURE, {254: 2}), (SMALL, {254: 3})], id="a page and its overview"),
        pytest.param([(PICTURE, {254: 0}), *[(SMALL, {254: 1})] * 30], id="thirty overviews"),
        pytest.param([(PICTURE, {254: 1})], id="an overview alone"),
        pytest.param([(PICTURE, {254: 1}), (SMALL, {254: 1})], id="nothing but overviews: the first"),
    ],
)
def test_copies_and_masks_are_no_pages(pages: list[Page]) -> None:
    assert np.array_equal(pixels(tiff(*pages)), NOISE)


@pytest.mark.parametrize("kind", [0, 2])
def test_two_pictures_are_refused(kind: int) -> None:
    with pytest.raises(ImageError, match="several pages"):
        pixels(tiff((PICTURE, {254: kind}), (SMALL, {254: 1}), (PICTURE.rotate(180), {254: kind})))


def test_a_directory_that_leads_back_to_itself_is_the_last() -> None:
    data = bytearray(tiff((PICTURE, {})))
    start = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], start)
    assert np.array_equal(pixels(bytes(data)), NOISE)


def test_big_tiff() -> None:
    buffer = io.BytesIO()
    PICTURE.save(buffer, "TIFF", big_tiff=True)
    assert np.array_equal(pixels(buffer.getvalue()), NOISE)


@pytest.mark.parametrize("source", ["tag", "xmp"])
def test_the_orientation_is_applied_once(source: str) -> None:
    xmp = b'<rdf:Description tiff:Orientation="3"/>'
    data = tiff((PICTURE, {274: 3})) if source == "tag" else io.BytesIO()
    if isinstance(data, io.BytesIO):
        PICTURE.save(data, "TIFF", tiffinfo={700: xmp})
        data = data.getvalue()
    assert np.array_equal(pixels(data), NOISE[::-1, ::-1])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_samples_of_unknown_range_are_refused(dtype: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), dtype)).save(buffer, "TIFF")
    with pytest.raises(ImageError, match="not supported"):
        pixels(buffer.getvalue())


def test_a_kind_that_is_not_read_is_named_and_not_called_corrupt() -> None:
    data = bytearray(tiff((PICTURE, {})))
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    struct.pack_into("<H", data, at, 32803)  # a colour filter array
    with pytest.raises(ImageError, match="photometric interpretation 32803") as caught:
        pixels(bytes(data))
    assert "corrupt" not in caught.value.message
