"""The input and the output of a forward: requests, answers and the states to commit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from adapters.base import Lesson
from adapters.composite import Strategy
from adapters.errors import InputError, UnsupportedModelError
from adapters.finite import finite_rows
from adapters.state.memory import Memory, StateKey


@dataclass(frozen=True, eq=False)
class Request:
    """A request of one stream: ``images`` ``[n, ...]``, n >= 1, as the model takes them.

    >>> AdaptiveModel(torch.nn.BatchNorm2d(3)).predict([Request(torch.rand(4, 3, 8, 8), update=False)])[0].step
    0

    ``strategy`` None means the model's own. With ``update`` false the request is answered as usual, from the
    state as it is, and what it would have taught is dropped.
    """

    images: Tensor
    stream: Hashable = "default"
    strategy: Strategy | None = None
    update: bool = True


class Answer(NamedTuple):
    """The outcome of one request.

    >>> AdaptiveModel(torch.nn.BatchNorm2d(3)).predict([Request(torch.rand(4, 3, 8, 8))])[0].step
    1
    """

    logits: Tensor  # [n, ...], what the network gives for the request's images; logarithms of corrected probabilities
    drift: float  # how far the stream's last images are from clean ones, see `adapters.engine.drift`
    adaptation: float  # how far the statistics used are from the trained ones, in the same units
    step: int  # committed requests of the stream, with this strategy, after this one
    updated: bool  # whether this request became part of the stream's state
    finite: bool  # whether logits and new state are finite; if not, nothing was committed
    outliers: int  # outliers, because of which the request was not learned from
    weight: float = 1.0  # share of the usual step by which it moved a running average: less for extreme images


class Outcome(NamedTuple):
    """All answers of one forward, and the states to commit: nothing is written until the caller does it.

    >>> outcome = AdaptiveModel(torch.nn.BatchNorm2d(3)).run([Request(torch.rand(4, 3, 8, 8), "camera-7")], memories={})
    >>> [(key.stream, memory.steps) for key, memory in outcome.memories.items()]
    [('camera-7', 1)]

    Rows may be parts of one larger tensor: keep them in an `adapters.Arena`, or copy them.

    ``adapt_s`` is how many seconds the calls of BatchNorm took, all that adapting does included; None where a compiled
    forward makes one of them and the rest, or where requests had to be run one by one.

    ``lessons`` are the requests that their streams have yet to learn from, see `adapters.AdaptiveModel.learn`: before
    its lesson has been learned, a stream is not ready for its next request.
    """

    answers: list[Answer]
    memories: dict[StateKey, Memory]
    adapt_s: float | None = None
    lessons: Mapping[StateKey, Lesson] = MappingProxyType({})


def check_requests(requests: Sequence[Request], *, raw: bool) -> None:
    """Refuse requests that cannot be joined into one batch; with ``raw`` images may be of any type.

    Raises:
        InputError: not a list of requests, no request, or images that do not fit together.
    """
    if not isinstance(requests, Sequence) or any(not isinstance(request, Request) for request in requests):
        raise InputError("requests must be a list of Request: pass [Request(images)], or call the model on the images")
    if not requests:
        raise InputError("predict needs at least one request")
    first = requests[0].images
    for request in requests:
        images = request.images
        if not isinstance(images, Tensor):
            raise InputError(f"images must be a tensor, not {type(images).__name__}: pass torch.as_tensor(images)")
        if not isinstance(request.stream, Hashable):
            raise InputError(f"stream must be hashable, such as text, not {type(request.stream).__name__}")
        if not (raw or images.is_floating_point()):
            raise InputError(f"images must be a floating-point tensor, the network's input, not {images.dtype}")
        if images.dim() < 2 or len(images) == 0:
            raise InputError(f"images must be [n, ...] with n >= 1, not {list(images.shape)}")
        if images.shape[1:] != first.shape[1:] or images.dtype != first.dtype:
            raise InputError(
                f"all images of a forward must have one shape and dtype, not {list(first.shape[1:])} {first.dtype} and "
                f"{list(images.shape[1:])} {images.dtype}: call predict once for each"
            )


def check_finite(images: Tensor) -> None:
    """Refuse a batch with values that are not finite.

    Raises:
        InputError: there are such values.
    """
    if images.is_floating_point() and not all(finite_rows(images)):
        raise InputError("images contain NaN or infinity: check their preprocessing; nothing was learned")


def check_output(logits: object, images: int) -> None:
    """Refuse an output without one row per image.

    Raises:
        UnsupportedModelError: the network's output is not a tensor ``[images, ...]``.
    """
    if not isinstance(logits, Tensor) or logits.dim() == 0 or len(logits) != images:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModelError(
            f"the network must map [n, ...] to a tensor [n, ...], but for {images} images it returns {shape}: "
            "wrap it in a module that returns only the logits"
        )


def one_lesson_each(requests: Sequence[Request], key_of: Callable[[Request], StateKey]) -> Iterator[list[Request]]:
    """Split requests, in order, before one whose stream has a pending lesson of an earlier one."""
    group: list[Request] = []
    learning: set[StateKey] = set()
    for request in requests:
        key = key_of(request)
        if key in learning:
            yield group
            group, learning = [], set()
        group.append(request)
        if request.update and key.strategy.learner is not None:
            learning.add(key)
    yield group
