"""The body of an inference response over HTTP: JSON, and behind it the outputs that are asked for as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from app.oip.outputs import Wanted
from app.oip.tensors import NamedTensor, to_bytes, to_values


class Answer(NamedTuple):
    """A body, and how many bytes of it are JSON: None where all are."""

    body: bytes
    header: int | None


def write_answer(
    said: Mapping[str, Any], tensors: Sequence[NamedTensor], wanted: Sequence[Wanted], binary: bool
) -> Answer:
    """``said`` with the ``tensors`` as its outputs, each as it is ``wanted``, or else all as ``binary`` says."""
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for tensor, one in zip(tensors, wanted, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.values.shape}
        if binary if one.binary is None else one.binary:
            parts.append(to_bytes(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = to_values(tensor)
        outputs.append(output)
    head = orjson.dumps({**said, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Answer(b"".join([head, *parts]), len(head) if parts else None)
