"""The body of an inference response over HTTP: JSON, followed by the outputs that are requested as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from app.oip.outputs import OutputRequest
from app.oip.tensors import NamedTensor, to_bytes, to_values


class WireResponse(NamedTuple):
    """A body, and the number of its bytes that are JSON: None where all are."""

    body: bytes
    header: int | None


def write_response(
    members: Mapping[str, Any], tensors: Sequence[NamedTensor], requests: Sequence[OutputRequest], binary: bool
) -> WireResponse:
    """Return ``members`` with ``tensors`` as outputs: as bytes where its request, or by default ``binary``, says so."""
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for tensor, request in zip(tensors, requests, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.values.shape}
        if binary if request.binary is None else request.binary:
            parts.append(to_bytes(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = to_values(tensor)
        outputs.append(output)
    head = orjson.dumps({**members, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return WireResponse(b"".join([head, *parts]), len(head) if parts else None)
