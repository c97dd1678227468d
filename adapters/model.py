"""AdaptiveModel: a network whose BatchNorm statistics follow the streams it answers."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter
from adapters.errors import InputError, StateError, UnsupportedModelError
from adapters.forward import Job, Pass
from adapters.memory import Key, Memory, State, initial, length, pack, unpack
from adapters.registry import name_of
from adapters.registry import strategy as named
from adapters.sites import Sites

FORMAT = 1
CACHED_TEMPLATES = 8


@dataclass(frozen=True, eq=False)
class Request:
    """What a client sends at once for one stream: ``images`` ``[n, ...]``, n >= 1, as the network takes them.

    ``adapter`` None means the model's own strategy. With ``update`` false the request is answered as usual, from the
    state as it is, and what it would have taught is dropped.
    """

    images: Tensor
    stream: Hashable = "default"
    adapter: AnyAdapter | None = None
    update: bool = True


class Answer(NamedTuple):
    """The outcome of one request."""

    logits: Tensor  # [n, ...], what the network gives for the request's images
    drift: float  # how far the request is from the training data, see `adapters.forward.Pass.drift`
    step: int  # committed requests of the stream, with this strategy, after this one
    updated: bool  # whether this request became part of the stream's state
    finite: bool  # whether logits and new state are finite; if not, nothing was committed


class Outcome(NamedTuple):
    """All answers of one forward, and the states to commit: nothing is written until the caller does it."""

    answers: list[Answer]
    memories: dict[Key, Memory]


class AdaptiveModel:
    """Wrap a network so that it adapts as it answers.

    >>> model = AdaptiveModel(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), strategy="adabn")
    >>> logits = model(torch.rand(4, 3, 16, 16))
    >>> model.reset()

    The network is copied, put into ``eval()`` and never changed again, nor is the caller's. Not for use by several
    threads at once.

    Args:
        model: any ``nn.Module`` with BatchNorm1d, 2d, 3d or SyncBatchNorm layers (subclasses included) that maps a
            tensor ``[n, ...]`` to a tensor ``[n, ...]``.
        strategy: a registered name, or an adapter instance.
        params: hyperparameters of a strategy given by name.

    Raises:
        UnsupportedModelError: no BatchNorm layer, or layers without trained statistics.
        UnknownStrategyError, ParameterError: see `adapters.strategy`.
    """

    def __init__(self, model: nn.Module, strategy: str | AnyAdapter = "adabn", **params: Any) -> None:
        self.adapter = _adapter(strategy, params)
        Sites(model)  # refuses before anything is copied
        self._network = _copied(model).eval().requires_grad_(requires_grad=False)
        self.sites = Sites(self._network)
        self._memories: dict[Key, Memory] = {}
        # Keyed by the number of known sites too, because that number can grow.
        self._template_of = lru_cache(CACHED_TEMPLATES)(self._new_template)

    def __call__(self, images: Tensor, *, stream: Hashable = "default", update: bool = True) -> Tensor:
        """Logits of one request of ``stream``; adapts as it answers."""
        return self.predict([Request(images, stream, update=update)])[0].logits

    def predict(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer many requests in one forward and commit their states; requests of one stream step in their order.

        Raises:
            InputError: no request, images that do not fit together, or values that are not finite; nothing is changed.
        """
        outcome = self.run(requests, self._memories)
        self._memories.update(outcome.memories)
        return outcome.answers

    def run(self, requests: Sequence[Request], memories: Mapping[Key, Memory]) -> Outcome:
        """The pure form of `predict`, for callers with a memory of their own: what to answer and what to commit."""
        _check(requests)
        outcome = self._forward(requests, memories)
        if len(requests) == 1 or all(answer.finite for answer in outcome.answers):
            return outcome
        return self._one_by_one(requests, memories)

    def reset(self, stream: Hashable | None = None) -> None:
        """Forget one stream, with every strategy, or all streams: the next request starts a new one."""
        kept = {} if stream is None else {key: m for key, m in self._memories.items() if key.stream != stream}
        self._memories = kept

    def state_bytes(self, adapter: AnyAdapter | None = None) -> int:
        """How many bytes one stream's state takes with ``adapter``, or with the model's own strategy."""
        return 4 * length(self._template(adapter or self.adapter))

    def state_dict(self) -> dict[str, Any]:
        """All streams, as plain types and tensors: safe for ``torch.save`` and ``torch.load(weights_only=True)``."""
        streams = [
            {
                "stream": key.stream,
                "strategy": name_of(key.adapter),
                "params": asdict(key.adapter),  # type: ignore[call-overload]
                "row": memory.row.clone(),
                "steps": memory.steps,
            }
            for key, memory in self._memories.items()
        ]
        return {"format": FORMAT, "sites": self._signature(), "streams": streams}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all streams by exported ones.

        Raises:
            StateError: exported from another network or in another format; nothing is changed.
        """
        if state.get("format") != FORMAT or not {"sites", "streams"} <= state.keys():
            raise StateError(f"expected a state of format {FORMAT}, got {state.get('format')!r}: export it again")
        ours, theirs = self._signature(), [tuple(site) for site in state["sites"]]
        shared = min(len(ours), len(theirs))
        # Only later calls of a layer, which are met while running, may be known on one side alone.
        if ours[:shared] != theirs[:shared] or not all("#" in name for name, _ in ours[shared:] + theirs[shared:]):
            raise StateError("the state was exported from a network with other BatchNorm layers: restore it there")
        for name, _ in theirs[shared:]:
            layer, call = name.split("#")
            self.sites.position(layer, int(call))
        restored = {}
        for entry in state["streams"]:
            adapter = self._named(entry["strategy"], entry["params"])
            row = entry["row"].to(self.sites[0].mean, copy=True)
            unpack(row, self._template(adapter))
            if not row.isfinite().all():
                raise StateError(f"the state of stream {entry['stream']!r} holds values that are not finite")
            restored[Key(entry["stream"], adapter)] = Memory(row, entry["steps"])
        self._memories = restored

    def _named(self, name: str, params: Mapping[str, Any]) -> AnyAdapter:
        # The model's own adapter needs no registration.
        own = self.adapter
        return own if name == name_of(own) and params == asdict(own) else named(name, params)  # type: ignore[call-overload]

    def _signature(self) -> list[tuple[str, int]]:
        return [(site.name, site.channels) for site in self.sites]

    def _template(self, adapter: AnyAdapter) -> list[State]:
        return self._template_of(adapter, len(self.sites))

    def _new_template(self, adapter: Any, _count: int) -> list[State]:
        return initial(adapter, self.sites)

    def _states(self, key: Key, memories: Mapping[Key, Memory]) -> list[State]:
        template = self._template(key.adapter)
        memory = memories.get(key)
        return list(template) if memory is None else unpack(memory.row, template)

    def _forward(self, requests: Sequence[Request], memories: Mapping[Key, Memory]) -> Outcome:
        keys = [Key(request.stream, request.adapter or self.adapter) for request in requests]
        states = {key: self._states(key, memories) for key in keys}
        ends = torch.tensor([len(request.images) for request in requests]).cumsum(0).tolist()
        jobs = [
            Job(key.adapter, slice(end - len(request.images), end), states[key], request.update)
            for key, request, end in zip(keys, requests, ends, strict=True)
        ]
        taken = Pass(self.sites, jobs)
        images = requests[0].images if len(requests) == 1 else torch.cat([request.images for request in requests])
        with torch.no_grad(), taken:
            logits = self._network(images)
        _check_output(logits, len(images))
        rows = {key: pack(states[key]) for key, job in zip(keys, jobs, strict=True) if job.update}
        sound = {key: bool(row.isfinite().all()) for key, row in rows.items()}
        steps = {key: memories[key].steps if key in memories else 0 for key in keys}
        answers = []
        for key, job, drift in zip(keys, jobs, taken.drift().tolist(), strict=True):
            part = logits[job.rows]
            finite = sound.get(key, True) and bool(part.isfinite().all())
            steps[key] += job.update and finite
            answers.append(Answer(part, drift, steps[key], job.update and finite, finite))
        if not all(answer.finite for answer in answers):
            rows = {}
        return Outcome(answers, {key: Memory(row, steps[key]) for key, row in rows.items()})

    def _one_by_one(self, requests: Sequence[Request], memories: Mapping[Key, Memory]) -> Outcome:
        """The slow way, after a forward that was not finite: a request that fails must not reach those behind it."""
        current, answers, committed = dict(memories), [], {}
        for request in requests:
            outcome = self._forward([request], current)
            current.update(outcome.memories)
            committed.update(outcome.memories)
            answers += outcome.answers
        return Outcome(answers, committed)


def _copied(model: nn.Module) -> nn.Module:
    # Some layers keep a computed tensor (weight_norm, a stored feature map), which torch refuses to copy.
    kept = [v for module in model.modules() for v in vars(module).values() if isinstance(v, Tensor) and not v.is_leaf]
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in kept})


def _adapter(strategy: str | AnyAdapter, params: Mapping[str, Any]) -> AnyAdapter:
    if isinstance(strategy, str):
        return named(strategy, params)
    if params:
        raise TypeError("give hyperparameters to the adapter instance itself; params go with a strategy's name")
    return strategy


def _check(requests: Sequence[Request]) -> None:
    if not requests:
        raise InputError("predict needs at least one request")
    first = requests[0].images
    for request in requests:
        images = request.images
        if not images.is_floating_point():
            raise InputError(f"images must be a floating tensor as the network takes them, not {images.dtype}")
        if images.dim() < 2 or len(images) == 0:
            raise InputError(f"images must be [n, ...] with n >= 1, not {list(images.shape)}")
        if images.shape[1:] != first.shape[1:] or images.dtype != first.dtype:
            raise InputError(
                f"one forward takes one shape and type of image, got {list(first.shape[1:])} {first.dtype} and "
                f"{list(images.shape[1:])} {images.dtype}: call predict once for each"
            )
        if not images.isfinite().all():
            raise InputError("images hold NaN or infinite values: check how they were scaled; nothing was learned")


def _check_output(logits: object, images: int) -> None:
    if not isinstance(logits, Tensor) or logits.dim() == 0 or len(logits) != images:
        what = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModelError(
            f"the network must map [n, ...] to a tensor [n, ...], for {images} images it gave {what}: "
            "wrap it in a module that returns the tensor to serve"
        )
