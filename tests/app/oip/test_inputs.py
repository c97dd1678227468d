from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from app.errors import FieldError, TooLargeError
from app.oip.inputs import InputLimits, check_input, to_images
from app.oip.tensors import NamedTensor, objects

LIMITS = InputLimits((3, 4, 4), images=3)


def test_files() -> None:
    for shape in ((2,), (2, 1)):
        assert to_images([NamedTensor("any", "BYTES", objects([b"a", b"b\0"], shape))], LIMITS) == [b"a", b"b\0"]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_the_networks_own_input_becomes_float32(datatype: str) -> None:
    given = np.arange(96, dtype=datatype.replace("FP", "f").replace("16", "2").replace("32", "4").replace("64", "8"))
    found = to_images([NamedTensor("any", datatype, given.reshape(2, 3, 4, 4))], LIMITS)
    assert isinstance(found, Tensor)
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == list(range(96))


def test_pixels_are_copied() -> None:
    raw = bytes(range(30))
    given = np.frombuffer(raw, np.uint8).reshape(1, 5, 2, 3)
    found = to_images([NamedTensor("any", "UINT8", given)], LIMITS)
    assert isinstance(found, Tensor)
    assert found.dtype == torch.uint8
    found[:] = 0
    assert given.max() == 29


def test_values_beyond_float32_become_infinite_for_the_engine_to_refuse() -> None:
    found = to_images([NamedTensor("any", "FP64", np.full((1, 3, 4, 4), 1e300))], LIMITS)
    assert isinstance(found, Tensor)
    assert found.isinf().all()


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_input(count: int) -> None:
    with pytest.raises(FieldError, match=f"expected exactly one input, got {count}") as caught:
        to_images([NamedTensor("any", "BYTES", objects([b"a"], (1,)))] * count, LIMITS)
    assert caught.value.location == "inputs"


@pytest.mark.parametrize(
    ("datatype", "shape"),
    [
        ("FP32", [1, 3, 4, 5]),
        ("FP32", [3, 4, 4]),
        ("FP32", [1, 4, 4, 3]),
        ("UINT8", [1, 3, 4, 4]),
        ("UINT8", [4, 4, 3]),
        ("UINT8", [1, 0, 4, 3]),
        ("BYTES", []),
        ("BYTES", [1, 2]),
        ("BYTES", [1, 1, 1]),
        ("INT32", [1, 3, 4, 4]),
        ("BOOL", [1]),
    ],
)
def test_no_images(datatype: str, shape: list[int]) -> None:
    with pytest.raises(FieldError, match="is not an input of this model") as caught:
        check_input(datatype, shape, LIMITS, "inputs[0]")
    assert "FP32 [n, 3, 4, 4]" in caught.value.hint
    assert caught.value.location == "inputs[0].shape"


@pytest.mark.parametrize(
    ("datatype", "rest"), [("FP32", [3, 4, 4]), ("UINT8", [9, 9, 3]), ("BYTES", []), ("BYTES", [1])]
)
def test_too_many_images(datatype: str, rest: list[int]) -> None:
    check_input(datatype, [3, *rest], LIMITS, "w")
    with pytest.raises(TooLargeError, match="4 images in one request, at most 3"):
        check_input(datatype, [4, *rest], LIMITS, "w")


def test_the_shape_is_that_of_the_values() -> None:
    given: Any = np.zeros((4, 3, 4, 4), np.float32)
    with pytest.raises(TooLargeError):
        to_images([NamedTensor("any", "FP32", given)], LIMITS)
