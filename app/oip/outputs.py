"""Conversion of a `Prediction` to the named output tensors and the parameters of a response."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.errors import FieldError
from app.oip.tensors import NamedTensor, objects
from app.types import Prediction

OUTPUTS = {"probabilities": "FP32", "label": "BYTES", "index": "INT64"}
"""Names and datatypes: the probabilities of all classes, the most probable class's name, and its place among them."""


@dataclass(frozen=True)
class OutputRequest:
    """An output that a request asks for. ``classes`` > 0 replaces probabilities by that many ranked classes; ``binary``
    says how the output is sent, where that can be chosen."""

    name: str
    classes: int = 0
    binary: bool | None = None


def read_outputs(items: Iterable[tuple[Any, Mapping[str, Any]]]) -> list[OutputRequest]:
    """Return the outputs that a request names in ``items``, each with its parameters; all outputs if it names none.

    Raises:
        FieldError: there is no such output, it appears twice, or a parameter does not fit it.
    """
    outputs: list[OutputRequest] = []
    for i, (name, parameters) in enumerate(items):
        location = f"outputs[{i}]"
        if name not in OUTPUTS:
            raise FieldError(
                f"unknown output {str(name)[:50]!r}", hint=f"the outputs are {', '.join(OUTPUTS)}", location=location
            )
        if any(name == output.name for output in outputs):
            raise FieldError(f"output '{name}' appears twice", hint="request it once", location=location)
        binary = parameters.get("binary_data")
        if binary is not None and not isinstance(binary, bool):
            raise FieldError("binary_data must be true or false", location=f"{location}.parameters.binary_data")
        outputs.append(OutputRequest(name, _classes(name, parameters, f"{location}.parameters.classification"), binary))
    return outputs or [OutputRequest(name) for name in OUTPUTS]


def classes_to_rank(outputs: Sequence[OutputRequest]) -> int:
    """Return the number of classes that have to be ranked for these outputs."""
    return max(1, *(output.classes for output in outputs))


def to_tensors(prediction: Prediction, labels: Sequence[str], outputs: Sequence[OutputRequest]) -> list[NamedTensor]:
    """Return the outputs in the requested order; ``labels`` are the names of the model's classes."""
    return [_output(prediction, labels, output) for output in outputs]


def response_parameters(prediction: Prediction, stream: str) -> dict[str, str | int | float | bool]:
    """Return the response's parameters, which describe the stream and its step; only finite drifts are included."""
    parameters: dict[str, str | int | float | bool] = {
        "renorm_stream": stream,
        "renorm_strategy": prediction.strategy,
        "renorm_step": prediction.step,
        "renorm_updated": prediction.updated,
        "renorm_outliers": prediction.outliers,
        "renorm_weight": prediction.weight,
        "renorm_state_origin": prediction.state_origin,
        "renorm_entropy": prediction.entropy,
    }
    if prediction.explanation is not None:
        # Parameters are numbers, booleans and text: JSON text, as hyperparameters are in requests.
        parameters["renorm_explanation"] = orjson.dumps(prediction.explanation).decode()
    distances = {"renorm_drift": prediction.drift, "renorm_adaptation": prediction.adaptation}
    return {**parameters, **{name: value for name, value in distances.items() if math.isfinite(value)}}


def _classes(name: str, parameters: Mapping[str, Any], location: str) -> int:
    value = parameters.get("classification", 0)
    if type(value) is not int or value < 0:
        raise FieldError(f"classification must be a non-negative integer, not {str(value)[:50]!r}", location=location)
    if value and name != "probabilities":
        raise FieldError(f"output '{name}' has no classes to rank", hint="use 'probabilities'", location=location)
    return value


def _output(prediction: Prediction, labels: Sequence[str], output: OutputRequest) -> NamedTensor:
    best = [row[0] for row in prediction.classes]
    if output.name == "index":
        return NamedTensor("index", "INT64", np.array(best, np.int64))
    if output.name == "label":
        return NamedTensor("label", "BYTES", objects([labels[i].encode() for i in best], (len(best),)))
    if not output.classes:
        return NamedTensor("probabilities", "FP32", prediction.probabilities.numpy())
    rows = [
        [f"{share:f}:{i}:{labels[i]}".encode() for i, share in zip(classes, shares, strict=True)][: output.classes]
        for classes, shares in zip(prediction.classes, prediction.shares, strict=True)
    ]
    flat = [text for row in rows for text in row]
    return NamedTensor("probabilities", "BYTES", objects(flat, (len(rows), len(rows[0]))))
