"""The types that pass between the doors and the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import Tensor

Origin = Literal["new", "live", "evicted", "lost"]
"""The state that a request found: its stream's, or none; evicted and lost are those that had one at their last answer,
which was dropped to make room, or ended with the engine process that had it."""


@dataclass(frozen=True)
class Call:
    """One request as a door parsed it: images of one stream, not yet decoded.

    ``images`` are files, or one tensor: uint8 ``[n, H, W, 3]`` for RGB pixels that are cut to the network's size as
    files are, or float32 ``[n, 3, size, size]`` for the network's input itself, preprocessed by the client.

    ``strategy`` None means the server's default; ``params`` are hyperparameters of the strategy, unchecked; ``top_k``
    is how many classes are ranked, all of them where the model has fewer.

    ``start`` resets the stream before the request, and ``end`` after the answer; a request without an answer does
    neither. Requests of a stream with the same ``request_id`` take one step and get one answer. A request
    whose forward has not started after ``timeout_s`` seconds fails.

    ``explain`` asks for the explanation of the stream after the answer.

    ``client`` identifies the caller by any text; scarce resources are shared fairly between clients.
    """

    images: list[bytes] | Tensor
    stream: str = "default"
    strategy: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    update: bool = True
    top_k: int = 5
    start: bool = False
    end: bool = False
    request_id: str | None = None
    timeout_s: float | None = None
    explain: bool = False
    client: str = field(default="", compare=False)  # not part of the request's content


class Timing(NamedTuple):
    """Milliseconds that a request spent in each stage."""

    decode: float
    queue: float
    forward: float
    total: float


@dataclass(frozen=True)
class StreamExplanation:
    """The reasons for the next answer of a stream, in words and numbers; None where a strategy has no such number."""

    words: str
    request: float | None  # weights that sum up to 1: of an image's own statistics,
    memory: float | None  # of what the stream remembers,
    trained: float | None  # and of the trained statistics
    averaged_images: float | None  # that the stream's averages stand for,
    independent_images: float | None  # and that these count as
    changed_layers: float | None  # share of the adapting layers that have let go of most older images
    change_alarm: bool | None  # whether these are more than chance lets go of
    is_mixture: bool | None  # whether domains are taken to be mixed
    images: int | None  # answers that the evidence is of
    independence: float | None
    persistence: float | None
    diversity: float | None
    is_corrected: bool | None
    corrector: str | None  # that changes answers now


@dataclass(frozen=True, eq=False)
class Prediction:
    """The engine's answer to a `Call`."""

    probabilities: Tensor  # [n, classes] float32, on the CPU
    classes: list[list[int]]  # [n][top_k], the most probable first
    shares: list[list[float]]  # [n][top_k], their probabilities
    entropy: float  # mean over the images, in nats
    strategy: str
    params: dict[str, Any]  # complete, defaults included; shared by all answers, so never changed
    step: int  # committed requests of this stream with this strategy, this one included if it was
    updated: bool
    drift: float  # how far the stream's last images are from clean ones, see `adapters.engine.drift`
    adaptation: float  # how far the statistics used are from the trained ones, in the same units
    timing: Timing
    outliers: int = 0  # images so far from the training data that the request was not learned from
    weight: float = 1.0  # share of the usual step by which a running average moved
    state_origin: Origin = "live"  # the state that the request found
    explanation: StreamExplanation | None = None  # only where the call asks for it
    commit_ms: float = 0.0  # milliseconds in which the states of its forward were committed


@dataclass(frozen=True)
class StreamInfo:
    """One stream's state with one strategy, without its numbers."""

    stream: str
    strategy: str
    params: dict[str, Any]
    steps: int
    images: int
    bytes: int
    drift: float  # after the last request
    adaptation: float  # of the last request
    entropy: float  # of the last request, mean over its images, in nats
    age_s: float  # since the last request
    explanation: StreamExplanation | None = None  # only where one stream is shown


@dataclass(frozen=True)
class StreamsInfo:
    """All streams, and how full the memory is."""

    streams: list[StreamInfo]
    bytes: int
    capacity_bytes: int
    evictions: int


class EngineProcess(NamedTuple):
    """One engine process: its number, its process id, and how many before it have ended."""

    number: int
    pid: int
    restarts: int


class SiteInfo(NamedTuple):
    """One BatchNorm position of the hosted network."""

    name: str
    kind: str  # class of the layer
    channels: int


@dataclass(frozen=True)
class ModelInfo:
    """The hosted model, for people and for clients that prepare images."""

    name: str
    architecture: str
    parameters: int
    classes: list[str]
    preprocessing: dict[str, Any]
    sites: list[SiteInfo]
    channels: int  # of all sites
    state_bytes: dict[str, int]  # of one stream, by strategy with its defaults
    device: str  # as torch writes it
    dtype: str  # of weights and activations
    default_strategy: str
    card: str
    drift_baseline: str  # "measured" on clean images, or "assumed" from the trained statistics
    notes: list[str] = field(default_factory=list)  # of the check at start-up: what a person should know
    class_ids: list[str] = field(default_factory=list)  # WordNet's, one for each class; empty where there are none
    weights: str = ""  # which were read from a file; empty for those that come with the model
