"""An inference request, as both transports of the protocol read it, and the engine's `Call` that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import FieldError, UnsupportedError
from app.oip.inputs import InputLimits, images_of
from app.oip.outputs import Wanted, ranked
from app.oip.parameters import read_options
from app.oip.tensors import NamedTensor
from app.types import Call


@dataclass(frozen=True)
class Infer:
    """What a client asks: ``id`` is its own word for the request, and comes back with the answer."""

    inputs: Sequence[NamedTensor]
    wanted: Sequence[Wanted]
    parameters: Mapping[str, Any]
    id: str = ""


def to_call(
    infer: Infer,
    limits: InputLimits,
    default_strategy: str,
    *,
    stream: str | None = None,
    request_id: str | None = None,
) -> Call:
    """The call that a request becomes. ``stream`` and ``request_id`` are what the transport says of them beside the
    request, as in headers; the request's own parameters count more. Whether a stream can have its name is for the
    caller to check.

    ``id`` is not what makes a repeated request take one step: clients give many requests the same.

    Raises:
        FieldError: the inputs are no images, or a parameter is wrong.
        TooLargeError: too many images.
        adapters.UnknownStrategyError: there is no such strategy.
    """
    options = read_options(infer.parameters, default_strategy)
    named = options.stream or stream
    if named is None and (options.start or options.end):
        raise FieldError(
            "sequence_start and sequence_end need to know which sequence",
            hint="send its sequence_id, other than 0 and empty",
            location="parameters.sequence_id",
        )
    return Call(
        images_of(infer.inputs, limits),
        stream=named or "default",
        strategy=options.strategy,
        params=options.params,
        update=options.update,
        top_k=ranked(infer.wanted),
        start=options.start,
        end=options.end,
        request_id=options.request_id or request_id,
        timeout_s=options.timeout_s,
    )


def check_memory(parameters: Mapping[str, Any], location: str) -> None:
    """Refuse a tensor whose data lies in memory that client and server would have to share.

    Raises:
        UnsupportedError: it does.
    """
    if "shared_memory_region" in parameters:
        raise UnsupportedError(
            "shared memory is not supported",
            hint="send the data in the request's body",
            location=f"{location}.parameters",
        )
