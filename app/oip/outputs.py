"""A `Prediction` to named tensors: the outputs of a hosted model, and what its answer says of the stream."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import FieldError
from app.oip.tensors import NamedTensor, objects
from app.types import Prediction

OUTPUTS = {"probabilities": "FP32", "label": "BYTES", "index": "INT64"}
"""Names and datatypes: the probabilities of all classes, the most probable class's name, and its place among them."""


@dataclass(frozen=True)
class Wanted:
    """An output that a request asks for. ``classes`` > 0 asks for that many ranked ones in place of probabilities;
    ``binary`` is how it should be sent, where that can be chosen."""

    name: str
    classes: int = 0
    binary: bool | None = None


def read_wanted(given: Iterable[tuple[Any, Mapping[str, Any]]]) -> list[Wanted]:
    """The outputs that a request names, with the parameters of each; all of them if it names none.

    Raises:
        FieldError: there is no such output, it is named twice, or a parameter does not fit it.
    """
    wanted: list[Wanted] = []
    for i, (name, parameters) in enumerate(given):
        location = f"outputs[{i}]"
        if name not in OUTPUTS:
            raise FieldError(
                f"there is no output {str(name)[:50]!r}", hint=f"there are {', '.join(OUTPUTS)}", location=location
            )
        if any(name == other.name for other in wanted):
            raise FieldError(f"output '{name}' is named twice", hint="name it once", location=location)
        binary = parameters.get("binary_data")
        if binary is not None and not isinstance(binary, bool):
            raise FieldError("binary_data must be true or false", location=f"{location}.parameters.binary_data")
        wanted.append(Wanted(name, _classes(name, parameters, f"{location}.parameters.classification"), binary))
    return wanted or [Wanted(name) for name in OUTPUTS]


def ranked(wanted: Sequence[Wanted]) -> int:
    """How many classes have to be ranked for these outputs."""
    return max(1, *(one.classes for one in wanted))


def to_tensors(prediction: Prediction, labels: Sequence[str], wanted: Sequence[Wanted]) -> list[NamedTensor]:
    """The outputs in the order in which they are wanted; ``labels`` are the names of the model's classes."""
    return [_output(prediction, labels, one) for one in wanted]


def about(prediction: Prediction, stream: str) -> dict[str, str | int | float | bool]:
    """What the answer's parameters say of the stream and its step; a drift that is not finite is left out."""
    said: dict[str, str | int | float | bool] = {
        "renorm_stream": stream,
        "renorm_strategy": prediction.strategy,
        "renorm_step": prediction.step,
        "renorm_updated": prediction.updated,
        "renorm_outliers": prediction.outliers,
        "renorm_weight": prediction.weight,
        "renorm_state_origin": prediction.state_origin,
        "renorm_entropy": prediction.entropy,
    }
    far = {"renorm_drift": prediction.drift, "renorm_adaptation": prediction.adaptation}
    return {**said, **{name: value for name, value in far.items() if math.isfinite(value)}}


def _classes(name: str, parameters: Mapping[str, Any], location: str) -> int:
    value = parameters.get("classification", 0)
    if type(value) is not int or value < 0:
        raise FieldError(f"classification must be a whole number, not {str(value)[:50]!r}", location=location)
    if value and name != "probabilities":
        raise FieldError(f"output '{name}' has no classes to rank", hint="ask it of 'probabilities'", location=location)
    return value


def _output(prediction: Prediction, labels: Sequence[str], wanted: Wanted) -> NamedTensor:
    best = [row[0] for row in prediction.classes]
    if wanted.name == "index":
        return NamedTensor("index", "INT64", np.array(best, np.int64))
    if wanted.name == "label":
        return NamedTensor("label", "BYTES", objects([labels[i].encode() for i in best], (len(best),)))
    if not wanted.classes:
        return NamedTensor("probabilities", "FP32", prediction.probabilities.numpy())
    rows = [
        [f"{share:f}:{i}:{labels[i]}".encode() for i, share in zip(classes, shares, strict=True)][: wanted.classes]
        for classes, shares in zip(prediction.classes, prediction.shares, strict=True)
    ]
    flat = [text for row in rows for text in row]
    return NamedTensor("probabilities", "BYTES", objects(flat, (len(rows), len(rows[0]))))
