"""Paths, bytes, PIL images and arrays to the image files that a request uploads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from app.client.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PilImage

    OneImage: TypeAlias = str | Path | bytes | PilImage | NDArray[np.uint8]
    Images: TypeAlias = OneImage | Sequence[OneImage]

_ACCEPTED = (
    "give a path, the bytes of an image file, a PIL image, a uint8 array [H, W, 3] or [n, H, W, 3], or a list of these"
)
_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_RGB_MODES = {"PA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


class Part(NamedTuple):
    """One image of a request: its name for the caller, the bytes of its file and their media type."""

    name: str
    content: bytes
    kind: str = "application/octet-stream"


def to_parts(images: Images) -> list[Part]:
    """Return the files of one request, one per image, in order. Pixels become lossless PNG files.

    Raises:
        InvalidInput: there is no image, or an item is not one.
        OSError: a path cannot be read.
    """
    if not isinstance(images, Sequence) or isinstance(images, str | bytes | bytearray | memoryview):
        return _parts(images, "the image")
    parts = [part for i, image in enumerate(images) for part in _parts(image, f"image {i}")]
    if not parts:
        raise InvalidInput(f"no image to predict; {_ACCEPTED}")
    return parts


async def to_parts_async(images: Images) -> list[Part]:
    """Return the same from a thread, because reading and compressing take a while: the event loop goes on meanwhile."""
    return await asyncio.to_thread(to_parts, images)


def _parts(image: Any, name: str) -> list[Part]:
    if isinstance(image, str | Path):
        return [Part(str(image), Path(image).read_bytes())]
    if isinstance(image, bytes | bytearray | memoryview):
        return [Part(name, bytes(image))]
    # A caller with a PIL image or an array has imported its library: others need not.
    pillow, numpy = sys.modules.get("PIL.Image"), sys.modules.get("numpy")
    if pillow is not None and isinstance(image, pillow.Image):
        return [Part(name, _from_pil(image, name), "image/png")]
    if numpy is not None and isinstance(image, numpy.ndarray):
        return _from_array(image, name)
    raise InvalidInput(f"{name} is of type {type(image).__name__}, which is not supported; {_ACCEPTED}")


def _from_array(array: NDArray[np.uint8], name: str) -> list[Part]:
    if array.dtype != "uint8" or array.ndim not in {3, 4} or array.shape[-1] != 3 or array.size == 0:
        raise InvalidInput(
            f"{name} is a {array.dtype} array of shape {list(array.shape)}; expected uint8 of shape [H, W, 3] or "
            "[n, H, W, 3] with RGB pixels from 0 to 255"
        )
    try:
        from PIL import Image  # noqa: PLC0415  # only arrays need it
    except ModuleNotFoundError as error:
        raise InvalidInput("sending arrays as PNG needs Pillow, which is not installed: pip install pillow") from error
    stack = array if array.ndim == 4 else array[None]
    return [Part(name, _png(Image.fromarray(pixels)), "image/png") for pixels in stack]


def _from_pil(image: PilImage, name: str) -> bytes:
    if image.mode in _RGB_MODES:
        return _png(image.convert("RGB"))
    if image.mode not in _PNG_MODES:
        raise InvalidInput(f"{name} has the unsupported mode {image.mode}; convert it to RGB or L")
    return _png(image)


def _png(image: PilImage) -> bytes:
    buffer = BytesIO()
    # Level 1: between two programs in one building, a few bytes more cost less than the time to save them.
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
