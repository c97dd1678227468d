from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient import utils as triton

from app.errors import FieldError
from app.oip.tensors import (
    DATATYPES,
    DTYPES,
    MAX_DIMENSIONS,
    NamedTensor,
    check_kind,
    from_bytes,
    from_values,
    objects,
    to_bytes,
    to_values,
)


def as_utf8(text: str, _: str) -> bytes:
    return text.encode()


def values(datatype: str, shape: tuple[int, ...], data: Any) -> Any:
    return from_values(datatype, shape, data, "inputs[0].data", as_utf8)


@pytest.mark.parametrize("datatype", DTYPES)
@settings(max_examples=25)
@given(data=st.data())
def test_bytes_and_values_there_and_back(datatype: str, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    rules: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    # Of whole numbers up to 2**64 with smaller ones numpy makes floats, which are refused rather than rounded.
    if datatype == "UINT64":
        rules["max_value"] = 2**53
    elements = arrays.from_dtype(DTYPES[datatype], **rules)
    given = data.draw(arrays.arrays(DTYPES[datatype], shape, elements=elements))
    raw = to_bytes(NamedTensor("x", datatype, given))
    assert raw == given.tobytes()
    assert np.array_equal(from_bytes(datatype, shape, raw, "w"), given)
    for listed in (given.tolist(), given.ravel().tolist()):
        back = values(datatype, shape, listed)
        assert np.array_equal(back, given)
        assert back.dtype == DTYPES[datatype]
    assert np.asarray(to_values(NamedTensor("x", datatype, given))).tolist() == given.ravel().tolist()


@given(st.lists(st.binary(max_size=9)))
def test_elements_of_bytes_are_written_as_nvidias_client_does(elements: list[bytes]) -> None:
    given = objects(elements, (len(elements),))
    raw = to_bytes(NamedTensor("x", "BYTES", given))
    theirs = triton.serialize_byte_tensor(given)
    assert raw == (theirs.item() if theirs.size else b"")
    assert list(from_bytes("BYTES", given.shape, memoryview(raw), "w")) == elements
    assert list(triton.deserialize_bytes_tensor(raw)) == elements


def test_bfloat16_is_a_short_float32() -> None:
    given = np.array([1.5, -2.0, 0.0, np.inf], np.float32)
    raw = (given.view(np.uint32) >> 16).astype("<u2").tobytes()
    assert from_bytes("BF16", (2, 2), raw, "w").tolist() == [[1.5, -2.0], [0.0, np.inf]]
    assert values("BF16", (2,), [1.5, -2.0]).tolist() == [1.5, -2.0]


def test_text_is_read_as_it_is_told_and_written_as_it_is() -> None:
    found = values("BYTES", (2, 1), [["ä"], ["b"]])
    assert found.tolist() == [["ä".encode()], [b"b"]]
    assert to_values(NamedTensor("x", "BYTES", found)) == ["ä", "b"]
    assert values("BYTES", (1,), [b"\xff"]).tolist() == [b"\xff"]


def test_zeros_at_the_end_of_bytes_stay() -> None:
    assert objects([b"a\0\0"], (1,))[0] == b"a\0\0"


def test_whole_numbers_may_be_written_as_floats() -> None:
    assert values("UINT8", (3,), [0.0, 255.0, 7]).tolist() == [0, 255, 7]
    assert values("FP32", (2,), [1, 2]).dtype == np.float32


def test_values_beyond_a_narrow_float_become_infinite() -> None:
    assert math.isinf(values("FP16", (1,), [1e10])[0])


@pytest.mark.parametrize("datatype", ["FP31", "fp32", None, 3, [], "BYTES "])
def test_unknown_datatypes(datatype: Any) -> None:
    with pytest.raises(FieldError, match="datatype must be one of BOOL") as caught:
        check_kind(datatype, [1], "inputs[0]")
    assert caught.value.location == "inputs[0].datatype"


@pytest.mark.parametrize("shape", [None, 3, "12", [1.0], [True], [-1], [2**31], ["1"], [1] * (MAX_DIMENSIONS + 1)])
def test_invalid_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(FieldError, match="shape must be a list") as caught:
        check_kind("FP32", shape, "inputs[0]")
    assert caught.value.location == "inputs[0].shape"


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_has_a_shape(datatype: str) -> None:
    assert check_kind(datatype, [2, 0], "w") == (datatype, (2, 0))


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "says"),
    [
        ("FP32", (2,), bytes(7), "takes 8 bytes, got 7"),
        ("FP32", (2**20, 2**20), bytes(8), "takes 4398046511104 bytes"),
        ("BF16", (2,), bytes(8), "takes 4 bytes"),
        ("BYTES", (1,), b"\x05\0\0\0abcd", "element 0 is longer"),
        ("BYTES", (1,), b"\xff\xff\xff\xffabcd", "element 0 is longer"),
        ("BYTES", (2,), b"\x01\0\0\0a\x01\0", "element 1 is longer"),
        ("BYTES", (2,), b"\x01\0\0\0a", "data has 1 elements"),
        ("BYTES", (2,), bytes(4 * 100_000), "data has 3 elements"),
    ],
)
def test_bytes_that_do_not_fit(datatype: str, shape: tuple[int, ...], raw: bytes, says: str) -> None:
    with pytest.raises(FieldError, match=says) as caught:
        from_bytes(datatype, shape, raw, "inputs[0].data")
    assert caught.value.location == "inputs[0].data"


def deep(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "says"),
    [
        ("FP32", (1,), None, "must be a list"),
        ("FP32", (1,), {"b64": ""}, "must be a list"),
        ("FP32", (2,), [1], r"shape \[1\], expected \[2\]"),
        ("FP32", (2, 3), [[1, 2], [3, 4], [5, 6]], r"\[3, 2\], expected \[2, 3\]"),
        ("FP32", (3,), [[1, 2], [3]], "rows of different lengths"),
        ("FP32", (1,), ["1"], "not FP32"),
        ("FP32", (1,), [None], "not FP32"),
        ("FP32", (1,), [True], "not FP32"),
        ("FP32", (1,), deep(900, 1), "different lengths"),
        ("BOOL", (1,), [1], "not BOOL"),
        ("UINT8", (1,), [256], "integers from 0 to 255"),
        ("UINT8", (1,), [-1], "integers from 0 to 255"),
        ("INT8", (1,), [0.5], "integers from -128 to 127"),
        ("INT64", (1,), [1e30], "integers from"),
        ("UINT64", (2,), [2**64 - 1, 0], "integers from"),
        ("BYTES", (1,), [1], "must be text"),
        ("BYTES", (2,), ["a"], "data has 1 elements"),
        ("BYTES", (1,), deep(900, "a"), "must be text"),
    ],
)
def test_values_that_do_not_fit(datatype: str, shape: tuple[int, ...], data: Any, says: str) -> None:
    with pytest.raises(FieldError, match=says) as caught:
        values(datatype, shape, data)
    assert caught.value.location.startswith("inputs[0].data")
