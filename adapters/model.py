"""AdaptiveModel: a network whose BatchNorm statistics follow the streams it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from adapters.arena import Arena
from adapters.base import AnyAdapter
from adapters.build import default_cache
from adapters.compiled import Compiled
from adapters.direct import Direct
from adapters.drift import drift, gathered
from adapters.forward import NORMALIZATIONS, Pass
from adapters.inplace import Watch, unread
from adapters.memory import Key, Layout, Memory, initial
from adapters.network import innermost, placed, taken_over
from adapters.plan import Plan, Turn
from adapters.registry import name_of
from adapters.registry import strategy as named
from adapters.request import Answer, Outcome, Request, check_finite, check_output, check_requests
from adapters.settle import Ran, settle
from adapters.sites import Sites
from adapters.snapshot import exported, restored

CACHED_LAYOUTS = 8


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
        prepare: what turns a batch of images as requests hold them into the network's input, such as the scaling of
            ``uint8`` pixels; by default requests hold the network's input itself.
        device: where the network runs; by default where it is.
        dtype: type of weights and activations, such as ``torch.bfloat16``; statistics and states stay float32.
        copy: with false the network itself is taken over, for callers who have no other use for it.
        compile: whether forwards run as machine code of their own, see `adapters.compiled.Compiled`. It is made at the
            first forward of each kind, which takes its time, or by `warm_up`, and kept on disk for the next process.
        params: hyperparameters of a strategy given by name.

    Raises:
        UnsupportedModelError: no BatchNorm layer, or layers without trained statistics.
        UnknownStrategyError, ParameterError: see `adapters.strategy`.
    """

    def __init__(
        self,
        model: nn.Module,
        strategy: str | AnyAdapter = "adabn",
        *,
        prepare: Callable[[Tensor], Tensor] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        copy: bool = True,
        compile: bool = False,
        **params: Any,
    ) -> None:
        self.adapter = _adapter(strategy, params)
        Sites(model)  # refuses before anything is copied
        self._prepare, self._dtype = prepare, dtype
        self._network = taken_over(model, None if device is None else torch.device(device), dtype, copied=copy)
        self.sites = Sites(self._network)
        self.device = self.sites[0].mean.device
        # Where BatchNorm may write over its input, and whether its layers may be asked directly: what the network's
        # code allows, once a forward has confirmed it.
        self._first: tuple[frozenset[str], Direct] | None = (unread(self._network), Direct(self.sites.layers))
        self._unread: frozenset[str] = frozenset()
        self._direct: Direct | None = None
        self._memories = Arena()
        # Keyed by the number of known sites too, because that number can grow.
        self._layout_of = lru_cache(CACHED_LAYOUTS)(self._new_layout)
        self._compile = compile
        self._compiled: Compiled | None = None

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
        check_requests(requests, raw=self._prepare is not None)
        outcome = self._forward(requests, memories)
        if len(requests) == 1 or all(answer.finite for answer in outcome.answers):
            return outcome
        return self._one_by_one(requests, memories)

    def warm_up(self, image: Tensor, progress: Callable[[str], None] | None = None) -> None:
        """Run once, and make all graphs now if the model compiles; afterwards none are made while requests wait.

        ``image`` ``[1, ...]`` is an example as requests hold them; no stream learns from it. ``progress`` is told
        what is compiled, which can take a minute a graph.
        """
        # Two requests: a network that cannot answer a batch is known now, not when the first one comes.
        self.run([Request(image, stream, update=False) for stream in ("one", "two")], {})
        if self._compiled is not None:
            self._compiled.progress = progress or self._compiled.progress
            with torch.no_grad():
                image = placed([image], self.device)
                prepared = innermost(image if self._prepare is None else self._prepare(image), self._dtype)
            self._compiled.make_all(prepared)

    def reset(self, stream: Hashable | None = None) -> None:
        """Forget one stream, with every strategy, or all streams: the next request starts a new one."""
        for key in [key for key in self._memories if stream is None or key.stream == stream]:
            del self._memories[key]

    def state_bytes(self, adapter: AnyAdapter | None = None) -> int:
        """How many bytes one stream's state takes with ``adapter``, or with the model's own strategy."""
        return 4 * len(self._layout(adapter or self.adapter))

    def state_dict(self) -> dict[str, Any]:
        """All streams, as plain types and tensors: safe for ``torch.save`` and ``torch.load(weights_only=True)``."""
        return self.exported(self._memories)

    def exported(self, memories: Mapping[Key, Memory]) -> dict[str, Any]:
        """The same of states that a caller keeps."""
        return exported(memories, self.sites)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all streams by exported ones.

        Raises:
            StateError: exported from another network or in another format; nothing is changed.
        """
        memories = restored(state, self.sites, self._layout, self._named)
        self.reset()
        self._memories.update(memories)

    def _named(self, name: str, params: Mapping[str, Any]) -> AnyAdapter:
        # The model's own adapter needs no registration.
        own = self.adapter
        return own if name == name_of(own) and params == asdict(own) else named(name, params)  # type: ignore[call-overload]

    def _layout(self, adapter: AnyAdapter) -> Layout:
        return self._layout_of(adapter, len(self.sites))

    def _new_layout(self, adapter: Any, _count: int) -> Layout:
        return initial(adapter, self.sites)

    def _forward(self, requests: Sequence[Request], memories: Mapping[Key, Memory]) -> Outcome:
        turns = [
            Turn(Key(request.stream, request.adapter or self.adapter), len(request.images), request.update)
            for request in requests
        ]
        plan = Plan(self.sites, turns, memories, self._layout)
        batch = placed([requests[index].images for index in plan.order], self.device)
        check_finite(batch)
        with torch.no_grad():
            images = innermost(batch if self._prepare is None else self._prepare(batch), self._dtype)
            if images.data_ptr() == requests[0].images.data_ptr():
                images = images.clone(memory_format=torch.preserve_format)  # networks may write to their input
            ran = (self._compiled and self._compiled.run(plan, images)) or self._eager(plan, images)
            if self._compile and (self._compiled is None or self._compiled.known != len(self.sites)):
                # Only now that the network has run are all sites known.
                layout = self._layout(self.adapter)
                self._compiled = Compiled(self._network, self.sites, self.adapter, layout, default_cache())
        distances = drift(self.sites, ran.seen, [turns[index].images for index in plan.order]).tolist()
        return settle(plan, ran, distances, memories)

    def _eager(self, plan: Plan, images: Tensor) -> Ran:
        taken = Pass(self.sites, plan, self._unread)
        if self._first is not None:
            logits = self._watched(taken, images, *self._first)
        elif self._direct is not None:
            self._direct.taken = taken
            try:
                logits = self._network(images)
            finally:
                self._direct.taken = None
        else:
            with taken:
                logits = self._network(images)
        check_output(logits, plan.images)
        return Ran(logits, gathered(taken.seen), [block.steps.rows() for block in plan.blocks], taken.adapt_s)

    def _watched(self, taken: Pass, images: Tensor, proven: frozenset[str], direct: Direct) -> Any:
        """The first forward: it shows what the network's code alone cannot."""
        watch = Watch(self.sites.buffers(), NORMALIZATIONS)
        with taken, watch:
            logits = self._network(images)
        self._unread = proven - watch.read_again()
        self._direct = direct if proven and direct.calls == taken.calls else None
        self._first = None
        return logits

    def _one_by_one(self, requests: Sequence[Request], memories: Mapping[Key, Memory]) -> Outcome:
        """The slow way, after a forward that was not finite: a request that fails must not reach those behind it."""
        current, answers, committed = dict(memories), [], {}
        for request in requests:
            outcome = self._forward([request], current)
            current.update(outcome.memories)
            committed.update(outcome.memories)
            answers += outcome.answers
        return Outcome(answers, committed)


def _adapter(strategy: str | AnyAdapter, params: Mapping[str, Any]) -> AnyAdapter:
    if isinstance(strategy, str):
        return named(strategy, params)
    if params:
        raise TypeError("give hyperparameters to the adapter instance itself; params go with a strategy's name")
    return strategy
