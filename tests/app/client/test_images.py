"""Whatever a caller has becomes files that hold the same pixels."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.client import InvalidInput
from app.client.images import Part, to_parts


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def decode(part: Part) -> NDArray[Any]:
    assert part.kind == "image/png"
    with Image.open(io.BytesIO(part.content)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_files_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"anything")
    kind = "application/octet-stream"
    assert to_parts(file) == to_parts(str(file)) == [Part(str(file), b"anything", kind)]
    assert to_parts(b"raw") == to_parts(bytearray(b"raw")) == to_parts(memoryview(b"raw"))  # type: ignore[arg-type]
    assert to_parts(b"raw") == [Part("the image", b"raw", kind)]


@pytest.mark.parametrize("flipped", [False, True])
def test_arrays_lose_nothing(flipped: bool) -> None:
    image, stack = pixels(5, 7, 3), pixels(4, 5, 7, 3)
    if flipped:  # views with negative strides
        image, stack = image[:, ::-1], stack[:, ::-1]
    assert np.array_equal(decode(to_parts(image)[0]), image)
    assert np.array_equal(np.stack([decode(part) for part in to_parts(stack)]), stack)


def test_pil_images_lose_nothing_and_are_not_changed() -> None:
    image = Image.fromarray(pixels(5, 7, 3))
    content = image.tobytes()
    assert decode(to_parts(image)[0]).tobytes() == content == image.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV", "LAB"])
def test_pil_images_of_every_usual_mode(mode: str) -> None:
    image = Image.new(mode, (3, 2)) if mode == "I;16" else Image.fromarray(pixels(2, 3, 3)).convert(mode)
    part = to_parts(image)[0]
    with Image.open(io.BytesIO(part.content)) as sent_image:
        expected = image.convert("RGB") if mode != "I;16" else image
        assert (sent_image.convert("RGB") if mode != "I;16" else sent_image).tobytes() == expected.tobytes()


def test_a_mixed_list_keeps_its_order_and_counts_images(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"first")
    parts = to_parts([file, b"second", Image.new("RGB", (2, 2)), pixels(2, 4, 4, 3), pixels(4, 4, 3)])
    assert [part.name for part in parts] == [str(file), "image 1", "image 2", "image 3", "image 3", "image 4"]
    assert [part.content for part in parts[:2]] == [b"first", b"second"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no image"),
        ((), "no image"),
        (None, "the image is of type NoneType"),
        ([b"a", 3], "image 1 is of type int"),
        (pixels(4, 4), r"uint8 array of shape \[4, 4\]; expected uint8 of shape \[H, W, 3\]"),
        (pixels(4, 4, 4), r"shape \[4, 4, 4\]"),
        (pixels(0, 4, 4, 3), r"shape \[0, 4, 4, 3\]"),
        (np.zeros((4, 4, 3), np.float32), "float32 array"),
        (Image.new("F", (2, 2)), "unsupported mode F"),
        (Image.new("I", (2, 2)), "unsupported mode I"),
    ],
)
def test_invalid_images_are_explained(images: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        to_parts(images)


def test_a_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        to_parts(tmp_path / "nowhere.png")


def test_without_pillow_arrays_are_refused_and_files_are_sent() -> None:
    code = """
import sys, numpy
sys.modules["PIL"] = None
from app.client.images import to_parts
assert to_parts(b"raw")[0].content == b"raw"
try:
    to_parts(numpy.zeros((2, 2, 3), "uint8"))
except ValueError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install pillow" in output
