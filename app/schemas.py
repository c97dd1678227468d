"""The JSON answers: one pydantic model for each, with the examples of the OpenAPI page."""

from __future__ import annotations

import math
import operator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

from app.explanation_schema import EXAMPLE, ExplanationResponse


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Measured = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A figure of a stream; null where it is not finite, because JSON has no NaN or infinity."""

Share = Annotated[FiniteFloat, Field(ge=0.0, le=1.0)]
"""A probability."""


class Wire(BaseModel):
    """The base of all answers: frozen, and created from the engine's dataclasses."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class RankedClass(Wire):
    """One class and how probable it is."""

    label: str = Field(examples=["cat"])
    index: int = Field(ge=0, examples=[3])
    probability: Share = Field(examples=[0.9312])


class ImagePrediction(RankedClass):
    """The most probable class of one image, and the ``top_k`` most probable ones, best first."""

    top_k: list[RankedClass]


class TimingResponse(Wire):
    """Milliseconds that the request spent in each stage."""

    decode: FiniteFloat = Field(examples=[1.8], description="from bytes to a tensor")
    queue: FiniteFloat = Field(examples=[0.2], description="waiting for the model")
    forward: FiniteFloat = Field(examples=[9.6], description="the forward that it shared")
    total: FiniteFloat = Field(examples=[11.7], description="from arrival to answer inside the engine")


class PredictResponse(Wire):
    """The answer to `POST /v1/predict`: classes of the images, and figures of the stream's adaptation."""

    model: str = Field(examples=["cifar10-resnet20"])
    stream: str = Field(examples=["camera-7"])
    strategy: str = Field(examples=["adabn"])
    params: dict[str, Any] = Field(
        description="hyperparameters in use, defaults included",
        examples=[{"momentum": 0.1, "reference_images": 32, "cumulative": False, "own": True, "unbiased": False}],
    )
    step: int = Field(ge=0, examples=[12], description="requests that this stream has learned from, with this strategy")
    updated: bool = Field(examples=[True], description="whether the stream learned from this request")
    outliers: int = Field(
        0, ge=0, examples=[0], description="images too far from the training data for the request to be learned from"
    )
    weight: float = Field(
        1.0,
        ge=0,
        le=1,
        examples=[1.0],
        description="share of its usual step by which a running average moved: less where an image is an outlier",
    )
    state_origin: Literal["new", "live", "evicted", "lost"] = Field(
        examples=["live"],
        description="whether the stream had a state (live), had none (new), or had lost it since its last request: to "
        "make room (evicted), or with the engine process that had it (lost)",
    )
    drift: Measured = Field(
        examples=[0.41],
        description="distance of the stream's last images from clean ones: 0 is clean, 1 the spread of clean images",
    )
    adaptation: Measured = Field(
        examples=[0.38], description="distance of the statistics used from the trained ones, in the same units"
    )
    entropy: FiniteFloat = Field(examples=[0.35], description="mean entropy of the images' probabilities, in nats")
    predictions: list[ImagePrediction] = Field(
        description="one per image, in the order they were sent",
        examples=[
            [
                {
                    "label": "cat",
                    "index": 3,
                    "probability": 0.9312,
                    "top_k": [
                        {"label": "cat", "index": 3, "probability": 0.9312},
                        {"label": "dog", "index": 5, "probability": 0.0501},
                    ],
                }
            ]
        ],
    )
    timing_ms: TimingResponse
    explanation: ExplanationResponse | None = Field(
        None,
        exclude_if=operator.not_,
        examples=[EXAMPLE],
        description="what the next answer of the stream leans on and why; only with `explain=true`",
    )


class StrategyResponse(Wire):
    """One strategy that a request may name, alone or joined with others."""

    name: str = Field(examples=["source"])
    kind: Literal["composite", "adapter", "learner", "corrector"] = Field(
        examples=["adapter"],
        description="its role: normalize, learn from answered requests, correct answers, or several of these",
    )
    adapter: str | None = Field(examples=[None], description="of all but adapters: the adapter where none is named")
    description: str = Field(
        examples=["No adaptation: every image is normalized with the statistics of the training data."]
    )
    documentation: str = Field(
        description="the method in full: formulas, choices and the paper",
        examples=["No adaptation: ...\n\nEqual to ``model.eval()``, and the baseline of every comparison."],
    )
    parameters: dict[str, Any] = Field(
        description="JSON schema (draft 2020-12) of its `params`; in a composite, `name.parameter` "
        "where several have a parameter of that name",
        examples=[{"type": "object", "properties": {}, "additionalProperties": False}],
    )
    default: bool = Field(examples=[False], description="whether requests that name no strategy get this one")


class CompositeResponse(Wire):
    """The meaning of a strategy's name, of one part or several."""

    name: str = Field(
        examples=["unmix_tns+lame"],
        description="the name in answers, streams and metrics: in order, without an implied adapter",
    )
    parts: list[StrategyResponse] = Field(description="the adapter, then the learner, then correctors in their order")
    parameters: dict[str, Any] = Field(
        description="JSON schema (draft 2020-12) of `params`; where a parameter is called `lame.memory`, "
        "`memory` alone means the same as long as no other part has one of that name",
        examples=[
            {
                "type": "object",
                "properties": {"lame.memory": {"type": "integer", "minimum": 0, "default": 0}},
                "additionalProperties": False,
            }
        ],
    )
    default: bool = Field(examples=[False], description="whether requests that name no strategy get this one")


class SiteResponse(Wire):
    """One BatchNorm position of the hosted network."""

    name: str = Field(examples=["stages.0.bn1"])
    kind: str = Field(examples=["BatchNorm2d"])
    channels: int = Field(examples=[16])


class ModelResponse(Wire):
    """The hosted model, and the preprocessing of its images."""

    name: str = Field(examples=["cifar10-resnet20"])
    architecture: str = Field(examples=["ResNet20"])
    parameters: int = Field(examples=[269722])
    classes: list[str] = Field(examples=[["airplane", "automobile", "bird", "cat"]])
    preprocessing: dict[str, Any] = Field(
        examples=[
            {
                "size": 32,
                "resize": 32,
                "interpolation": "bilinear",
                "mean": [0.49, 0.48, 0.45],
                "std": [0.25, 0.24, 0.26],
                "crop": "center",
            }
        ]
    )
    sites: list[SiteResponse]
    channels: int = Field(examples=[688], description="of all sites")
    state_bytes: dict[str, int] = Field(
        examples=[{"source": 0, "adabn": 5504}], description="of one stream's state, by strategy"
    )
    device: str = Field(examples=["cpu"], description="the device of the network")
    dtype: str = Field(examples=["float32"], description="of weights and activations; statistics are float32")
    default_strategy: str = Field(examples=["adabn"])
    notes: list[str] = Field(
        [], examples=[[]], description="findings of the check at start-up, such as layers that cannot be adapted"
    )
    drift_baseline: Literal["measured", "assumed"] = Field(
        examples=["measured"],
        description="whether drift is measured against clean images, or against trained statistics",
    )
    card: str = Field(examples=["Trained on CIFAR-10; 91 % of its test images are classified correctly."])
    class_ids: list[str] = Field(
        default=[],
        exclude_if=operator.not_,
        examples=[["n02691156", "n02958343", "n01503061", "n02121620"]],
        description="WordNet ids, one for each class; only where the labels have them",
    )
    weights: str = Field(
        examples=["best.pth: the averaged weights at 'state_dict_ema'; 'state_dict' not read"],
        description="the file and the weights loaded from it; empty for bundled weights",
    )


class StreamState(Wire):
    """The state of one stream with one strategy, without its numbers."""

    stream: str = Field(examples=["camera-7"])
    strategy: str = Field(examples=["adabn"])
    params: dict[str, Any] = Field(examples=[{"momentum": 0.1}])
    steps: int = Field(examples=[12], description="requests it has learned from")
    images: int = Field(examples=[96], description="images it has learned from")
    bytes: int = Field(examples=[5504])
    drift: Measured = Field(examples=[0.41], description="after the last request")
    adaptation: Measured = Field(None, examples=[0.38], description="of the last request")
    entropy: Measured = Field(examples=[0.35], description="of the last request, in nats")
    age_s: FiniteFloat = Field(examples=[3.2], description="seconds since the last request")
    explanation: ExplanationResponse | None = Field(
        None, examples=[EXAMPLE], description="what the next answer leans on and why; null in the list of all streams"
    )


class StreamsResponse(Wire):
    """All streams' states, and how full the memory for them is."""

    streams: list[StreamState]
    bytes: int = Field(examples=[5504])
    capacity_bytes: int = Field(examples=[1_000_000_000])
    evictions: int = Field(examples=[0], description="states evicted to make room")


class ResetResponse(Wire):
    """The answer to `POST /v1/admin/reset`."""

    forgotten: int = Field(ge=0, examples=[2], description="number of states dropped")
    stream: str | None = Field(examples=["camera-7"], description="the stream of the request; null: all")
    strategy: str | None = Field(examples=["adabn"], description="the strategy of the request; null: all")


class HealthResponse(Wire):
    """The process is alive."""

    status: str = Field(examples=["ok"])


class ReadyResponse(Wire):
    """The model answers."""

    ready: bool = Field(examples=[True])
    model: str = Field(examples=["cifar10-resnet20"])


class ErrorResponse(BaseModel):
    """The one shape of every error."""

    error: str = Field(description="what is wrong, what is expected and how to fix it")
    code: str = Field(description="the kind of error, for programs", examples=["too_large"])
    where: str | None = Field(
        None, description="which part of the request is wrong; absent where unknown", examples=["files[2]"]
    )


class NotReadyResponse(ErrorResponse):
    """The model does not answer: an error, and the flag that probes read."""

    ready: bool = Field(False, examples=[False])
