"""TIFF: one picture, however many copies of it and masks the file holds, and every depth with either end as white."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops
from PIL.TiffImagePlugin import TiffImageFile

from app.errors import ImageError
from app.images.picture import Picture, load_pixels
from app.images.samples import Depth, narrow_colour, narrow_gray, significant_bits

MOST_PAGES = 1000
"""Directories that are looked at."""

_MOST_ENTRIES = 200
_FIRST_PAGES = 10  # that are looked at for a size
_WIDTH, _HEIGHT = 256, 257
_SUBFILE, _OLD_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 254, 255, 258, 259, 262, 277
_LARGEST, _PLANAR, _EXTRA, _LARGEST_SHOWN = 281, 284, 338, 341
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


class Page(NamedTuple):
    """One directory: where it begins, where the offset of the next one is written, and whether it is a picture.

    It is none where it says that it is a smaller copy of another one, or a mask.
    """

    start: int
    next_at: int
    is_picture: bool


def pages(data: bytes) -> Iterator[Page]:
    """Walk along a file's directories; one that was seen already, or that is not there, ends the walk."""
    head = _Head(data)
    start, visited = head.first, set[int]()
    while start and start not in visited and len(visited) < MOST_PAGES:
        visited.add(start)
        next_at = start + head.count_bytes + head.number(start, head.count_bytes) * head.entry_bytes
        yield Page(start, next_at, head.is_picture(head.entries(start)))
        start = head.number(next_at, head.offset_bytes)


class _Head:
    """The number format of a file: classic or BigTIFF, in either order of bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "big" if data[:2] == b"MM" else "little"
        is_big = self.number(2, 2) == 43
        self.first_at, self.count_bytes, self.entry_bytes, self.offset_bytes = (
            (8, 8, 20, 8) if is_big else (4, 2, 12, 4)
        )
        self.first = self.number(self.first_at, self.offset_bytes)

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], self.order)  # type: ignore[arg-type]

    def entries(self, start: int) -> range:
        """Return the positions of the first tags of a directory; they are sorted, and valid ones have fewer."""
        count = min(self.number(start, self.count_bytes), _MOST_ENTRIES)
        first = start + self.count_bytes
        return range(first, min(first + count * self.entry_bytes, len(self.data)), self.entry_bytes)

    def pixels(self, page: Page) -> int:
        sides = dict[int, int]()
        for at in self.entries(page.start):
            tag = self.number(at, 2)
            if tag > _HEIGHT:
                break
            sides[tag] = self.number(at + 4 + self.offset_bytes, 2 if self.number(at + 2, 2) == 3 else 4)
        return sides.get(_WIDTH, 0) * sides.get(_HEIGHT, 0)

    def deepest(self, page: Page) -> int:
        """The bits of a pixel's first sample where it has three or more, else 0."""
        for at in self.entries(page.start):
            if self.number(at, 2) == _BITS and (count := self.number(at + 4, self.offset_bytes)) > 2:
                value_at = at + 4 + self.offset_bytes
                is_inside = 2 * count <= self.offset_bytes
                return self.number(value_at if is_inside else self.number(value_at, self.offset_bytes), 2)
        return 0

    def is_picture(self, places: range) -> bool:
        for at in places:
            tag = self.number(at, 2)
            if tag > _OLD_SUBFILE:
                break
            value = self.number(at + 4 + self.offset_bytes, 2 if self.number(at + 2, 2) == 3 else 4)
            if tag == _SUBFILE and value & (_REDUCED | _MASK):
                return False
            if tag == _OLD_SUBFILE and value == _OLD_REDUCED:
                return False
        return True


def open_picture(data: bytes) -> Picture:
    """A TIFF file: its one picture; where all pages are copies or masks, the first."""
    directories = list(pages(data))
    pictures = [page for page in directories if page.is_picture] or directories[:1]
    file = _single_page(data, pictures[0]) if len(directories) > 1 else data
    image = _Tiff(BytesIO(file))
    return Picture(image, len(pictures) <= 1, partial(_load, image, file))


def page_pixels(data: bytes) -> int:
    """The pixels of the largest of the first pages, 0 where their sizes cannot be read."""
    head = _Head(data)
    return max((head.pixels(page) for page in islice(pages(data), _FIRST_PAGES)), default=0)


def has_deep_colours(data: bytes) -> bool:
    """Return whether one of the first pages has three or more samples of 16 bits, according to its tags."""
    head = _Head(data)
    return any(head.deepest(page) > 8 for page in islice(pages(data), _FIRST_PAGES))


def _single_page(data: bytes, page: Page) -> bytes:
    """The same file with that page as its only one."""
    head, file = _Head(data), bytearray(data)
    for at, value in ((head.first_at, page.start), (page.next_at, 0)):
        file[at : at + head.offset_bytes] = value.to_bytes(head.offset_bytes, head.order)  # type: ignore[arg-type]
    return bytes(file)


class _Tiff(TiffImageFile):
    """Pillow's reader, and some of the layouts that its table lacks, read as others of the same size.

    These are white at zero beyond 8 bits or beside a second channel; 12 bits in big-endian files; and 16 bits of gray
    with a second channel, whose four bytes per pixel are taken as four channels.
    """

    is_inverted = is_pair = is_planar = False

    def _setup(self) -> None:
        tags: Any = self.tag_v2
        bits, photometric, order = tags.get(_BITS, (1,)), tags.get(_PHOTOMETRIC, 0), tags.prefix
        self.depth = _depth(tags)
        if photometric == 0 and (bits[0] > 8 or len(bits) > 1):
            self.is_inverted, tags[_PHOTOMETRIC] = True, 1
        if photometric in (0, 1) and bits == (16, 16):
            self.is_pair = True
            tags[_BITS], tags[_PHOTOMETRIC], tags[_SAMPLES], tags[_EXTRA] = (8, 8, 8, 8), 2, 4, (2,)
        if bits == (12,):
            tags._prefix = b"II"
        self.is_planar = tags.get(_PLANAR, 1) == 2 and bits[0] == 16
        if self.is_planar and tags.get(_COMPRESSION, 1) == 1:
            # Pillow reads the samples of such planes as bytes; libtiff reads the true tag.
            tags[_COMPRESSION] = 8
        try:
            super()._setup()
        except SyntaxError as error:
            raise ImageError(
                f"this TIFF is not supported (bits per sample {bits}, photometric interpretation {photometric}, "
                f"compression {tags.get(_COMPRESSION, 1)}): {error}",
                hint="save it as gray or RGB with 8 or 16 bits per channel",
            ) from error
        finally:
            tags._prefix = order


def _load(image: _Tiff, file: bytes) -> Image.Image:
    raw = _raw_mode(image)
    is_big_endian = image.tag_v2.prefix == b"MM" if image.tile[0].codec_name == "raw" else sys.byteorder == "big"
    high = load_pixels(image)
    if image.is_pair:
        samples = np.frombuffer(high.tobytes(), ">u2" if is_big_endian else "<u2").reshape(high.height, high.width, 2)
        return narrow_gray(samples[..., 0], image.depth, is_inverted=image.is_inverted)
    if high.mode.startswith("I;16"):
        return narrow_gray(np.asarray(high), image.depth, is_inverted=image.is_inverted)
    if ";16" in raw and not image.is_planar:
        high = narrow_colour(high, partial(_low_bytes, file, raw), image.depth)
    if image.is_planar and significant_bits(int(np.asarray(high)[..., :3].max()) << 8, image.depth) < 16:
        # Its lower bytes are not accessible, and the upper ones alone are nearly black.
        raise ImageError("the TIFF image has planes of fewer than 16 bits", hint="save its channels interleaved")
    if high.mode == "La":  # premultiplied, which Pillow converts to nothing else
        high = high.convert("LA")
    return ImageChops.invert(high.convert("L")) if image.is_inverted else high


def _low_bytes(file: bytes, raw: str) -> Image.Image:
    """The lower bytes of a picture's 16-bit samples, read as if the file had the other order of bytes."""
    image = _Tiff(BytesIO(file))
    raw_mode = raw[:-1] + _OTHER_ORDER[raw[-1]]
    image.tile = [tile._replace(args=(raw_mode, *tuple(tile.args or ())[1:])) for tile in image.tile]
    return load_pixels(image)


def _raw_mode(image: TiffImageFile) -> str:
    args = image.tile[0].args if image.tile else ""
    return str(args[0]) if isinstance(args, tuple) else str(args)


def _depth(tags: Any) -> Depth:
    """Return the bits of the samples by BitsPerSample, or else by the largest sample that the file declares."""
    bits = min(tags.get(_BITS, (1,)))
    if bits < 16:
        return Depth(bits)
    for tag in (_LARGEST_SHOWN, _LARGEST):
        largest = tags.get(tag)
        values = largest if isinstance(largest, tuple) else (largest,)
        if all(isinstance(value, int | float) and value > 0 for value in values):
            return Depth(int(max(values)).bit_length())
    return Depth()
