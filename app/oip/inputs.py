"""Named tensors to images: the three kinds of input that a hosted model takes, one in each request."""

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
    """What is taken: the ``input`` of the network (channels, height, width), and how many ``images`` at most."""

    input: tuple[int, int, int]
    images: int


def check_input(datatype: str, shape: Sequence[int], limits: InputLimits, location: str) -> None:
    """Whether an input of this shape can be images at all, before its data is read.

    Raises:
        FieldError: it is none of the three kinds.
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
            f"{datatype} of shape {list(shape)} is no input of this model",
            hint=f"send FP32 [n, {', '.join(map(str, limits.input))}], which is the network's input, normalized; or "
            "UINT8 [n, height, width, 3], which is RGB pixels; or BYTES [n], which is image files",
            location=f"{location}.shape",
        )
    if shape[0] > limits.images:
        raise TooLargeError(
            f"{shape[0]} images in one request, at most {limits.images} are accepted",
            hint="send them in several requests, or raise RENORM_MAX_IMAGES",
            location=f"{location}.shape",
        )


def images_of(tensors: Sequence[NamedTensor], limits: InputLimits) -> list[bytes] | Tensor:
    """The images of a request, as `app.types.Call` takes them. The engine looks into them: files may be no images, and
    numbers may be infinite, which those become that a float32 cannot hold.

    Raises:
        FieldError: not exactly one input, or an input that is no images.
        TooLargeError: too many images.
    """
    if len(tensors) != 1:
        names = ", ".join(repr(tensor.name[:50]) for tensor in tensors[:10]) or "none"
        raise FieldError(
            f"exactly one input is expected, and there are {len(tensors)}: {names}",
            hint="send the images as one tensor",
            location="inputs",
        )
    (tensor,) = tensors
    values = tensor.values
    check_input(tensor.datatype, values.shape, limits, "inputs[0]")
    if tensor.datatype == "BYTES":
        return list(values.ravel())
    if tensor.datatype == "UINT8":
        return torch.from_numpy(np.array(values))  # a copy: what was received is read-only
    with np.errstate(over="ignore", invalid="ignore"):
        floats = values.astype(np.float32)
    return torch.from_numpy(floats)
