"""Metadata, configuration and statistics of the server and its one model, as the protocol describes them."""

from __future__ import annotations

import json
from typing import Any

from app import __version__
from app.errors import ModelNotFoundError
from app.models.hosted import Hosted
from app.observability.statistics import Duration, EngineCounters
from app.oip.outputs import OUTPUTS
from app.settings import Settings

NAME = "renorm"
VERSION = "1"
"""The only version of the only model."""

PLATFORM = "pytorch_renorm"

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "sequence",
    "sequence(string_id)",
    "statistics",
]
"""Extensions of the protocol that the server has."""


def check_model(hosted: Hosted, name: str, version: str = "") -> None:
    """Refuse a request for a model that is not hosted; an empty version means any.

    Raises:
        ModelNotFoundError: the name or the version is not the hosted model's.
    """
    if name != hosted.name:
        raise ModelNotFoundError(
            f"model {name[:99]!r} is not hosted", hint=f"the hosted model is {hosted.name!r}", location="model"
        )
    if version not in {"", VERSION}:
        raise ModelNotFoundError(
            f"the model has no version {version[:100]!r}", hint=f"its only version is {VERSION!r}", location="version"
        )


def server_metadata() -> dict[str, Any]:
    """Return name, version and extensions of the server."""
    return {"name": NAME, "version": __version__, "extensions": EXTENSIONS}


def model_metadata(hosted: Hosted) -> dict[str, Any]:
    """Return inputs and outputs of the model.

    Of the three kinds of input only the network's own is listed, because clients that fill all listed inputs would
    send three; ``parameters`` describes the others.
    """
    shapes = {"probabilities": [-1, len(hosted.classes)]}
    outputs = [{"name": name, "datatype": kind, "shape": shapes.get(name, [-1])} for name, kind in OUTPUTS.items()]
    return {
        "name": hosted.name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, *hosted.preprocessing.input_shape]}],
        "outputs": outputs,
        "parameters": _alternatives(),
    }


def model_config(hosted: Hosted, settings: Settings) -> dict[str, Any]:
    """Return the model's configuration as Triton's ModelConfig in JSON; dimensions leave out the batch."""
    shape = list(hosted.preprocessing.input_shape)
    dims = {"probabilities": [len(hosted.classes)]}
    types = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BYTES": "TYPE_STRING"}
    return {
        "name": hosted.name,
        "platform": PLATFORM,
        "backend": NAME,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": settings.max_images,
        "input": [{"name": "input", "data_type": "TYPE_FP32", "format": "FORMAT_NCHW", "dims": shape}],
        "output": [
            {"name": name, "data_type": types[kind], "dims": dims.get(name, [])} for name, kind in OUTPUTS.items()
        ],
        # Every request belongs to a stream, and the protocol's word for that is sequence.
        "sequence_batching": {"direct": {}, "control_input": []},
        "model_transaction_policy": {"decoupled": False},
        "parameters": {name: {"string_value": text} for name, text in _alternatives().items()},
    }


def model_statistics(hosted: Hosted, statistics: EngineCounters) -> dict[str, Any]:
    """Return the model's statistics since the server started, in the form of Triton's statistics extension."""
    return {
        "model_stats": [
            {
                "name": hosted.name,
                "version": VERSION,
                "last_inference": statistics.last_inference_ms,
                "inference_count": statistics.inference_count,
                "execution_count": statistics.execution_count,
                "inference_stats": {
                    **{name: _duration(getattr(statistics, name)) for name in ("success", "fail", "queue", *_STAGES)},
                    "cache_hit": _duration(Duration()),
                    "cache_miss": _duration(Duration()),
                },
                "response_stats": {},
                "batch_stats": [
                    {"batch_size": size, **{name: _duration(getattr(batch, name)) for name in _STAGES}}
                    for size, batch in sorted(statistics.batches.items())
                ],
                "memory_usage": [],
            }
        ]
    }


_STAGES = ("compute_input", "compute_infer", "compute_output")


def repository_index(hosted: Hosted) -> list[dict[str, str]]:
    """Return the list of models: the hosted one."""
    return [{"name": hosted.name, "version": VERSION, "state": "READY", "reason": ""}]


def _alternatives() -> dict[str, str]:
    """Return the inputs that may be sent in place of the listed one; parameters are text, so each is JSON."""
    return {
        "renorm_input_image": json.dumps({"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}),
        "renorm_input_bytes": json.dumps({"name": "bytes", "datatype": "BYTES", "shape": [-1]}),
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
