"""From bytes to pixels: exact ones, every mode and orientation, and every refusal."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import ImageError, RenormError, TooLargeError
from app.images import ACCEPTED, ImageLimits, decode
from app.models.hosted import Preprocessing

LIMITS = ImageLimits(bytes=1_000_000, pixels=1_000_000)

Pixels = NDArray[np.uint8]


def plain(size: int, resize: int = 0, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(size, resize or size, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * rows / height, 255 * columns / width, 128 + 0 * rows], 2).astype(np.uint8))


def encoded(image: Image.Image | Pixels, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes, size: int = 32, resize: int = 0) -> Pixels:
    return decode(data, plain(size, resize), LIMITS)


def refused(data: bytes, error: type[RenormError] = ImageError, limits: ImageLimits = LIMITS) -> RenormError:
    with pytest.raises(error) as caught:
        decode(data, plain(32), limits)
    assert caught.value.hint
    return caught.value


def test_an_image_of_the_right_size_keeps_every_pixel_channels_innermost() -> None:
    image = noise(32, 32)
    out = pixels(encoded(image))
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert np.array_equal(out, image)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize(("height", "width"), [(97, 61), (40, 200), (24, 30), (256, 77), (56, 71)])
def test_resize_and_centre_crop_equal_the_two_steps_done_one_after_the_other(
    interpolation: str, height: int, width: int
) -> None:
    image = smooth(height, width)
    short = min(image.size)
    resized = image.resize((56 * width // short, 56 * height // short), Image.Resampling[interpolation.upper()])
    left, top = round((resized.width - 48) / 2), round((resized.height - 48) / 2)
    expected = np.asarray(resized.crop((left, top, left + 48, top + 48)), np.float32)
    out = decode(encoded(image), plain(48, 56, interpolation), LIMITS).astype(np.float32)
    assert np.abs(out - expected).max() <= 1


def test_a_wide_image_without_resampling_is_cropped_at_its_centre() -> None:
    image = noise(32, 51)
    assert np.array_equal(pixels(encoded(image)), image[:, 10:42])


@pytest.mark.parametrize("shape", [(1, 900_000), (900_000, 1)])
def test_an_extremely_long_image_costs_only_its_centre(shape: tuple[int, int]) -> None:
    out = decode(encoded(np.full((*shape, 3), 50, np.uint8)), plain(224, 256), LIMITS)
    assert np.array_equal(out, np.full((224, 224, 3), 50))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    image = noise(32, 32)
    assert np.array_equal(pixels(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))), image)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_the_picture(progressive: bool) -> None:
    image = smooth(32, 32)
    found = pixels(encoded(image, "JPEG", quality=95, progressive=progressive)).astype(int)
    assert np.abs(found - np.asarray(image)).mean() < 3


def _palette(**options: Any) -> bytes:
    return encoded(smooth(32, 32).quantize(16), **options)


_GRAY = noise(32, 32, 1)
_COLOUR = noise(32, 32)
_RGB_OF_PALETTE = np.asarray(smooth(32, 32).quantize(16).convert("RGB"))
_ON = _GRAY > 127
_DEEP = _GRAY.astype(np.uint16) * 257


def _deep_big_endian() -> bytes:
    return encoded(Image.frombytes("I;16B", (32, 32), _DEEP.astype(">u2").tobytes()), "TIFF")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded(_GRAY), np.stack([_GRAY] * 3, 2), id="L"),
        pytest.param(encoded(np.dstack([_GRAY, _GRAY.T])), np.stack([_GRAY] * 3, 2), id="LA"),
        pytest.param(encoded(np.dstack([_COLOUR, _GRAY])), _COLOUR, id="RGBA drops alpha"),
        pytest.param(encoded(_COLOUR, transparency=(1, 2, 3)), _COLOUR, id="RGB with a transparent colour"),
        pytest.param(_palette(), _RGB_OF_PALETTE, id="P"),
        pytest.param(_palette(transparency=3), _RGB_OF_PALETTE, id="P with a transparent colour"),
        pytest.param(_palette(transparency=bytes(range(16))), _RGB_OF_PALETTE, id="P with alpha per colour"),
        pytest.param(encoded(smooth(32, 32).quantize(16), "GIF", transparency=0), _RGB_OF_PALETTE, id="still GIF"),
        pytest.param(encoded(Image.fromarray(_ON)), np.stack([_ON * np.uint8(255)] * 3, 2), id="1"),
        pytest.param(encoded(Image.fromarray(_DEEP)), np.stack([_GRAY] * 3, 2), id="I;16 scaled, not clipped"),
        pytest.param(_deep_big_endian(), np.stack([_GRAY] * 3, 2), id="I;16B"),
        pytest.param(
            encoded(Image.fromarray(_COLOUR).convert("CMYK"), "TIFF"),
            np.asarray(Image.fromarray(_COLOUR).convert("CMYK").convert("RGB")),
            id="CMYK",
        ),
    ],
)
def test_every_mode_becomes_rgb(data: bytes, expected: Pixels) -> None:
    assert np.array_equal(pixels(data), expected)


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    data = encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() < 6


# What a viewer must do to the stored rows and columns, by the number in EXIF.
TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
    9: lambda a: a,
}


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [*((kind, orientation) for kind in ("PNG", "WEBP", "TIFF") for orientation in range(1, 9)), ("PNG", 9)],
)
def test_the_orientation_that_exif_tells_is_applied_once(kind: str, orientation: int) -> None:
    image = noise(32, 41)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    turned = TURNS[orientation](image)
    left, top = round((turned.shape[1] - 32) / 2), round((turned.shape[0] - 32) / 2)
    assert np.array_equal(pixels(data), turned[top : top + 32, left : left + 32])


def test_a_damaged_exif_block_does_not_spoil_the_picture() -> None:
    image = noise(32, 32)
    assert np.array_equal(pixels(encoded(image, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage")), image)


def test_the_first_picture_of_a_phones_mpo_is_taken() -> None:
    first, second = smooth(32, 32), Image.new("RGB", (16, 16))
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert np.abs(pixels(data).astype(int) - np.asarray(first)).mean() < 3


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused_and_a_single_frame_is_not(kind: str) -> None:
    frames = [Image.fromarray(np.full((32, 32, 3), shade, np.uint8)) for shade in (0, 100, 200)]
    error = refused(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert "animated" in error.message
    assert pixels(encoded(frames[1], kind, save_all=True)).shape == (32, 32, 3)


def test_an_empty_image_is_refused() -> None:
    assert "empty" in refused(b"").message


def test_too_many_bytes_are_refused_before_anything_is_read() -> None:
    error = refused(b"x" * 101, TooLargeError, ImageLimits(bytes=100, pixels=100))
    assert "101 bytes" in error.message
    assert "100 are accepted" in error.message


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b'{"image": "..."}', "JSON, which as a body needs the header Content-Type: application/json"),
        (b"stream=camera-7", "a URL-encoded form: send its fields in the query"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b'<?xml version="1.0"?>\n<svg xmlns="..."/>', "an SVG drawing"),
        (b"no picture", "text"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a data URI"),
        (b"iVBORw0KGgoAAAANSUhEUgAA", "base64"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
    ],
)
def test_other_files_are_named_by_their_kind(data: bytes, looks: str) -> None:
    error = refused(data)
    assert looks in error.message
    assert ACCEPTED in error.hint


def test_bytes_that_look_like_nothing_are_not_guessed_at() -> None:
    assert "look like" not in refused(b"\0\1\2\3").message


def _png_of(width: int, height: int) -> bytes:
    """A PNG whose header tells a size, with pixels for the first row at most."""
    data = bytearray(encoded(np.zeros((1, 1, 3), np.uint8)))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def _gif_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(np.zeros((1, 1), np.uint8), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_png_of(1001, 1000), id="just over the limit"),
        pytest.param(_png_of(10_000, 10_000), id="where Pillow would warn"),
        pytest.param(_png_of(2**31 - 1, 2**31 - 1), id="where Pillow would refuse"),
        pytest.param(_gif_of(65535, 65535), id="GIF"),
        pytest.param(encoded(Image.new("1", (1200, 1000)), "TIFF", compression="group4"), id="TIFF"),
        pytest.param(encoded(Image.new("L", (1200, 1000)), "WEBP", lossless=True), id="WebP"),
        pytest.param(encoded(Image.new("L", (1200, 1000)), "JPEG"), id="JPEG"),
    ],
)
def test_too_many_pixels_are_refused_from_the_header(data: bytes) -> None:
    assert "at most 1000000 are accepted" in refused(data, TooLargeError).message


def test_an_image_at_the_limit_of_pixels_is_taken() -> None:
    assert pixels(encoded(Image.new("L", (1000, 1000), 7)))[0, 0, 0] == 7


def test_pixel_limit_is_ours_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    assert pixels(encoded(Image.new("L", (60, 60), 7))).shape == (32, 32, 3)


def test_pillows_own_limits_are_reported_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (60, 60), 7), "TIFF")
    for pillows in (3000, 1500):  # it warns above its limit and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
        refused(data, TooLargeError)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_truncated_images_are_refused(kind: str, kept: float) -> None:
    data = encoded(noise(64, 64), kind)
    assert "truncated" in refused(data[: int(len(data) * kept)]).message


def test_pixels_of_unknown_range_are_refused() -> None:
    assert "32-bit" in refused(encoded(Image.new("F", (32, 32), 0.5), "TIFF")).message


def test_many_threads_decode_as_one_does() -> None:
    files = [encoded(noise(40 + i, 50), kind) for i in range(6) for kind in ("PNG", "JPEG", "WEBP")]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(pixels, files * 4))
    for data, found in zip(files * 4, together, strict=True):
        assert np.array_equal(found, pixels(data))
