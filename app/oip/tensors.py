"""Tensors of the Open Inference Protocol: little-endian bytes, or lists of values."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import FieldError

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""Datatypes of the protocol that numpy has. The others are BYTES, whose elements have any length, and BF16."""

DATATYPES = (*DTYPES, "BF16", "BYTES")

MAX_DIMENSIONS = 16
"""More than any tensor has, so that a shape is short."""


@dataclass(frozen=True, eq=False)
class NamedTensor:
    """A tensor with its name. ``values`` have its shape: `bytes` objects for BYTES, float32 for BF16."""

    name: str
    datatype: str
    values: NDArray[Any]


def check_kind(datatype: Any, shape: Any, location: str) -> tuple[str, tuple[int, ...]]:
    """Return datatype and shape of an input, checked before its data is read; ``location`` names the input.

    Raises:
        FieldError: there is no such datatype, or the shape is not a list of integers.
    """
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise FieldError(
            f"datatype must be one of {', '.join(DATATYPES)}, not {str(datatype)[:50]!r}",
            location=f"{location}.datatype",
        )
    fits = isinstance(shape, list | tuple) and len(shape) <= MAX_DIMENSIONS
    if not fits or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise FieldError(
            f"shape must be a list of at most {MAX_DIMENSIONS} integers, not {str(shape)[:50]}",
            hint="such as [1, 3, 224, 224]",
            location=f"{location}.shape",
        )
    return datatype, tuple(shape)


def from_bytes(datatype: str, shape: tuple[int, ...], raw: bytes | memoryview, location: str) -> NDArray[Any]:
    """Return values from little-endian bytes in row-major order; each element of BYTES follows its length in 4 bytes.

    The result may share memory with ``raw`` and be read-only.

    Raises:
        FieldError: there are more or fewer bytes than the shape needs.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _objects(_elements(raw, count, location), shape, location)
    kind = np.dtype("<u2") if datatype == "BF16" else DTYPES[datatype]
    if len(raw) != count * kind.itemsize:
        raise FieldError(
            f"{datatype} of shape {list(shape)} takes {count * kind.itemsize} bytes, got {len(raw)}",
            hint="make shape, datatype and binary data agree",
            location=location,
        )
    flat = np.frombuffer(raw, kind)
    if datatype == "BF16":  # a float32 without its lower half
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def from_values(
    datatype: str, shape: tuple[int, ...], data: Any, location: str, read_text: Callable[[str, str], bytes]
) -> NDArray[Any]:
    """Return values from a list that is flat in row-major order or nested like the shape.

    ``read_text`` decodes an element of BYTES that is text; its second argument is the element's location.

    Raises:
        FieldError: values of another type or out of range, or more or fewer than the shape needs.
    """
    if not isinstance(data, list):
        raise FieldError(f"data must be a list, not {str(data)[:50]}", location=location)
    if datatype == "BYTES":
        return _objects(
            [_element(element, f"{location}[{i}]", read_text) for i, element in enumerate(_flat(data))], shape, location
        )
    try:
        values = np.asarray(data)
    except ValueError as error:
        raise FieldError("data has rows of different lengths", hint=_AS_SHAPE, location=location) from error
    if values.size and values.dtype.kind not in ("b" if datatype == "BOOL" else "iuf"):
        raise FieldError(f"data has values that are not {datatype}", hint=_AS_SHAPE, location=location)
    # Empty lists do not have a width.
    nested = values.ndim > 1 and values.size > 0
    if values.size != math.prod(shape) or (nested and values.shape != shape):
        raise FieldError(
            f"data has shape {list(values.shape)}, expected {list(shape)}", hint=_AS_SHAPE, location=location
        )
    return _converted(values, np.dtype("<f4") if datatype == "BF16" else DTYPES[datatype], location).reshape(shape)


_AS_SHAPE = "send as many values as the shape has elements, flat or nested like the shape, in row-major order"


def to_bytes(tensor: NamedTensor) -> bytes:
    """Return the bytes that `from_bytes` reads; not for BF16, which no response has."""
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(element)) + element for element in tensor.values.ravel())
    return tensor.values.astype(DTYPES[tensor.datatype]).tobytes()


def to_values(tensor: NamedTensor) -> list[Any] | NDArray[Any]:
    """Return the values flat, as orjson takes them; bytes as UTF-8 text."""
    flat = tensor.values.ravel()
    return [element.decode() for element in flat] if tensor.datatype == "BYTES" else flat


def objects(elements: list[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of `bytes` objects: numpy's own type for bytes would drop trailing zeros."""
    values = np.empty(len(elements), object)
    values[:] = elements
    return values.reshape(shape)


def _objects(elements: list[bytes], shape: tuple[int, ...], location: str) -> NDArray[Any]:
    if len(elements) != math.prod(shape):
        raise FieldError(
            f"data has {len(elements)} elements, expected shape {list(shape)}", hint=_AS_SHAPE, location=location
        )
    return objects(elements, shape)


def _elements(raw: bytes | memoryview, count: int, location: str) -> list[bytes]:
    elements: list[bytes] = []
    start = 0
    # One more than needed is enough to know that there are too many.
    while start < len(raw) and len(elements) <= count:
        head = raw[start : start + 4]
        end = start + 4 + int.from_bytes(head, "little")
        if len(head) < 4 or end > len(raw):
            raise FieldError(
                f"element {len(elements)} is longer than the rest of the tensor",
                hint="write the length of each element before it, in 4 bytes, little-endian",
                location=location,
            )
        elements.append(bytes(raw[start + 4 : end]))
        start = end
    return elements


def _flat(data: list[Any]) -> list[Any]:
    for _ in range(MAX_DIMENSIONS):
        if not any(isinstance(element, list) for element in data):
            break
        data = [element for item in data for element in (item if isinstance(item, list) else [item])]
    return data


def _element(value: Any, location: str, read_text: Callable[[str, str], bytes]) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise FieldError(f"an element of BYTES must be text, not {str(value)[:50]}", location=location)
    return read_text(value, location)


def _converted(values: NDArray[Any], kind: np.dtype[Any], location: str) -> NDArray[Any]:
    if kind.kind in "iu" and values.size:
        limits = np.iinfo(kind)
        # Beyond 2**53 a float64 cannot represent every integer.
        integral = values.dtype.kind in "iu" or bool(((values == np.floor(values)) & (np.abs(values) <= 2**53)).all())
        if not integral or values.min() < limits.min or values.max() > limits.max:
            raise FieldError(
                f"data has values that are not integers from {limits.min} to {limits.max}", location=location
            )
    # What a narrow float cannot hold becomes infinite, which is refused later.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(kind)
