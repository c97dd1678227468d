"""Calls and predictions as they travel between processes: plain tuples, so that neither end imports classes to read.

The front sends, each with the number of a call:

* ``call``: a `CoreCall` without its images; its place in the queue is that of this message.
* ``pixels``: the place of its images in the slab, or the tensor itself where the slab had no room; when it was decoded.
* ``unreadable``: the error of its images, which the engine answers with, in the order of its other answers.
* ``cancel``: its caller has left.
* ``ask``: another method of `app.serving.core_contract.Core`, with its arguments.

The engine sends:

* ``answer``: whether the call was answered, its prediction or error, and whether its images may be written over.
* ``free``: the images may be written over now.
* ``event``: a method of `app.observability.meter.Meter` and its arguments.
"""

from __future__ import annotations

from typing import Any

import torch

from app.serving.core_contract import CoreCall
from app.types import Call, Prediction, Timing

CALL, PIXELS, UNREADABLE, CANCEL, ASK = "call", "pixels", "unreadable", "cancel", "ask"
ANSWER, FREE, EVENT = "answer", "free", "event"

Wire = tuple[Any, ...]


def pack_call(request: CoreCall) -> Wire:
    """Return a call without its images."""
    c = request.call
    options = c.update, c.top_k, c.start, c.end, c.request_id, c.timeout_s, c.explain, c.client
    return (c.stream, c.strategy, dict(c.params), *options), request.count, request.content, request.arrived


def unpack_call(packed: Wire) -> CoreCall:
    """Return the call of `pack_call`."""
    fields, *details = packed
    return CoreCall(Call([], *fields), *details)


def pack_prediction(p: Prediction) -> Wire:
    """Return a prediction with its probabilities as bytes, which are read faster than a tensor."""
    probabilities = p.probabilities.contiguous().numpy()
    output = p.classes, p.shares, p.entropy, p.strategy, p.params, p.step, p.updated, p.drift, p.adaptation
    details = p.outliers, p.weight, p.state_origin, p.explanation, p.commit_ms
    return probabilities.tobytes(), probabilities.shape, output, tuple(p.timing), details


def unpack_prediction(packed: Wire) -> Prediction:
    """Return the prediction of `pack_prediction`."""
    numbers, shape, output, timing, details = packed
    probabilities = torch.frombuffer(bytearray(numbers), dtype=torch.float32).view(shape)
    fields: list[Any] = [*output, Timing(*timing), *details]
    return Prediction(probabilities, *fields)
