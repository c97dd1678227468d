"""The inference request that both transports of the protocol read, and its conversion to the engine's `Call`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import FieldError, UnsupportedError
from app.oip.inputs import InputLimits, to_images
from app.oip.outputs import OutputRequest, classes_to_rank
from app.oip.parameters import read_options
from app.oip.tensors import NamedTensor
from app.types import Call


@dataclass(frozen=True)
class InferRequest:
    """A request; the response has the same ``id``. ``binary`` sends outputs as bytes that do not choose themselves."""

    inputs: Sequence[NamedTensor]
    outputs: Sequence[OutputRequest]
    parameters: Mapping[str, Any]
    id: str = ""
    binary: bool = False


def to_call(
    request: InferRequest,
    limits: InputLimits,
    default_strategy: str,
    *,
    stream: str | None = None,
    request_id: str | None = None,
) -> Call:
    """Return the call for a request. ``stream`` and ``request_id`` come from the transport, as from headers; parameters
    of the request take precedence. The caller has to check the stream's name.

    ``id`` does not make a repeated request take one step: clients reuse it for many requests.

    Raises:
        FieldError: the inputs are not images, or a parameter is wrong.
        TooLargeError: too many images.
        adapters.UnknownStrategyError: there is no such strategy.
    """
    options = read_options(request.parameters, default_strategy)
    name = options.stream or stream
    if name is None and (options.start or options.end):
        raise FieldError(
            "sequence_start and sequence_end need a sequence_id",
            hint="send a sequence_id that is neither 0 nor empty",
            location="parameters.sequence_id",
        )
    return Call(
        to_images(request.inputs, limits),
        stream=name or "default",
        strategy=options.strategy,
        params=options.params,
        update=options.update,
        top_k=classes_to_rank(request.outputs),
        start=options.start,
        end=options.end,
        request_id=options.request_id or request_id,
        timeout_s=options.timeout_s,
        explain=options.explain,
    )


def check_memory(parameters: Mapping[str, Any], location: str) -> None:
    """Refuse a tensor whose data is in shared memory.

    Raises:
        UnsupportedError: the data is in shared memory.
    """
    if "shared_memory_region" in parameters:
        raise UnsupportedError(
            "shared memory is not supported",
            hint="send the data in the request's body",
            location=f"{location}.parameters",
        )
