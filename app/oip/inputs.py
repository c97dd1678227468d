"""Conversion of named tensors to images: the three kinds of input of a hosted model, one per request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from app.errors import FieldError, TooLargeError
from app.oip.tensors import NamedTensor

FLOATS = ("FP32", "FP16", "FP64", "BF16")
"""Datatypes of the network's own input; all but the first are converted."""


class InputLimits(NamedTuple):
    """Limits of a request: the shape of the network's ``input`` (channels, height, width) and the most ``images``."""

    input: tuple[int, int, int]
    images: int


def check_input(datatype: str, shape: Sequence[int], limits: InputLimits, location: str) -> None:
    """Refuse an input whose shape cannot hold images, before its data is read.

    Raises:
        FieldError: it is not one of the three kinds.
        TooLargeError: too many images.
    """
    sides = tuple(shape[1:])
    if datatype in FLOATS:
        fits = len(shape) == 4 and sides == limits.input
    elif datatype == "UINT8":
        fits = len(shape) == 4 and sides[2] in (3, limits.input[0]) and min(sides) > 0
    else:
        fits = datatype == "BYTES" and len(shape) >= 1 and sides in ((), (1,))
    if not fits:
        raise FieldError(
            f"{datatype} of shape {list(shape)} is not an input of this model",
            hint=f"send FP32 [n, {', '.join(map(str, limits.input))}] (the network's normalized input), "
            "UINT8 [n, height, width, 3] (RGB pixels) or BYTES [n] (image files)",
            location=f"{location}.shape",
        )
    if shape[0] > limits.images:
        raise TooLargeError(
            f"{shape[0]} images in one request, at most {limits.images} are accepted",
            hint="send them in several requests, or raise RENORM_MAX_IMAGES",
            location=f"{location}.shape",
        )


def to_images(tensors: Sequence[NamedTensor], limits: InputLimits) -> list[bytes] | Tensor:
    """Return the images of a request, as `app.types.Call` takes them. The engine checks their content: a file may be no
    image, and a number that float32 cannot hold becomes infinite.

    Raises:
        FieldError: not exactly one input, or an input that does not hold images.
        TooLargeError: too many images.
    """
    if len(tensors) != 1:
        names = ", ".join(repr(tensor.name[:50]) for tensor in tensors[:10]) or "none"
        raise FieldError(
            f"expected exactly one input, got {len(tensors)}: {names}",
            hint="send the images as one tensor",
            location="inputs",
        )
    (tensor,) = tensors
    values = tensor.values
    check_input(tensor.datatype, values.shape, limits, "inputs[0]")
    if tensor.datatype == "BYTES":
        return list(values.ravel())
    if tensor.datatype == "UINT8":
        return torch.from_numpy(np.array(values))  # a copy, because the received bytes are read-only
    with np.errstate(over="ignore", invalid="ignore"):
        floats = values.astype(np.float32)
    return torch.from_numpy(floats)
