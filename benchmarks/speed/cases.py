"""The timed cases: the network without adapting, as the field adapts it, and as Renorm does."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch._inductor.config as inductor
from torch import Tensor, nn

from adapters import AdaptiveModel, Linear, Request, strategy
from benchmarks.speed.clock import Call, Case
from benchmarks.speed.models import folded
from benchmarks.speed.textbook import TextbookAlphaBN, TextbookUnMixTNS, replaced

PLAIN, CHANNELS_LAST, FOLDED, FROZEN = "plain eval", "channels_last", "folded channels_last", "compiled and frozen"
ALPHA, UNMIX = "textbook alpha_bn", "textbook unmix_tns"
ONE, MANY, QUEUED, MIXED = "one request", "one request of each of many streams", "many requests of one stream", "mixed"

LINEAR = "adabn"


def eager(network: nn.Module, images: Tensor, strategies: Sequence[str]) -> list[Case]:
    """The references, the textbook versions, and each strategy for one request of ``images`` ``[n, 3, h, w]``.

    References get their images in their memory format; Renorm gets the default one and converts it in the call.
    """
    last, image = torch.channels_last, images[:1]
    model = AdaptiveModel(network)
    return [
        Case(PLAIN, _answering(network, images)),
        Case(CHANNELS_LAST, _answering(_in_format(network, last), images.contiguous(memory_format=last))),
        Case(FOLDED, _answering(_in_format(folded(network, image), last), images.contiguous(memory_format=last))),
        Case(ALPHA, _answering(replaced(network, TextbookAlphaBN), images)),
        Case(UNMIX, _answering(replaced(network, TextbookUnMixTNS), images)),
        *(Case(name, _serving(model, [Request(images, name, strategy(name))])) for name in strategies),
    ]


def streams(network: nn.Module, images: Tensor, strategies: Sequence[str]) -> list[Case]:
    """The same images as one request, as one request of each of n streams, and as n requests of one stream.

    In the mixed case the streams take the strategies in turn.
    """
    model = AdaptiveModel(network)
    singles = [image.clone() for image in torch.split(images, 1)]
    cases = []
    for name in strategies:
        adapter = strategy(name)
        separate = [Request(image, f"many-{i}", adapter) for i, image in enumerate(singles)]
        queued = [Request(image, "queued", adapter) for image in singles]
        for label, requests in ((ONE, [Request(images, "one", adapter)]), (MANY, separate), (QUEUED, queued)):
            cases.append(Case(f"{name}: {label}", _serving(model, requests)))
    turn = [strategy(strategies[i % len(strategies)]) for i in range(len(singles))]
    mixed = [Request(image, f"mixed-{i}", turn[i]) for i, image in enumerate(singles)]
    return [*cases, Case(f"{MIXED}: {MANY}", _serving(model, mixed))]


class Compiled:
    """The compiled versions of one network, which are kept from one number of images to the next."""

    def __init__(self, network: nn.Module, strategies: Sequence[str]) -> None:
        self._network, self._strategies = network, strategies
        self._models: dict[str, AdaptiveModel] = {}
        self._refused: dict[tuple[str, bool], str] = {}

    def cases(self, images: Tensor, tell: Callable[[str], None]) -> tuple[list[Case], dict[str, str]]:
        """Plain eval, the network compiled and frozen, each strategy compiled; and why a case is missing.

        Everything is compiled when this returns; ``tell`` hears what is being worked on.
        """
        makers: dict[str, Callable[[], Call]] = {FROZEN: partial(_frozen, self._network, images)}
        makers |= {name: partial(self._adapting, name, images) for name in self._strategies}
        cases, notes = [Case(PLAIN, _answering(self._network, images))], {}
        for name, make in makers.items():
            tell(f"compiling for batch {len(images)}: {name}")
            try:
                cases.append(Case(name, make()))
            # The compiler fails in more ways than it has a tree of exceptions for.
            except Exception as error:
                notes[name] = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        return cases, notes

    def _adapting(self, name: str, images: Tensor) -> Call:
        adapter = strategy(name)
        # All linear strategies share their graphs.
        graph = LINEAR if isinstance(adapter, Linear) and adapter.linear else name
        if graph not in self._models:
            self._models[graph] = AdaptiveModel(self._network, graph, compile=True)
        call = _serving(self._models[graph], [Request(images, name, adapter)])
        with _warned() as warnings:
            # The first forward of a model tells what there is to compile.
            call()
            call()
        # Said once by a model that runs eagerly from then on: it would be timed as what it is not.
        if warnings:
            self._refused[graph, len(images) == 1] = warnings[0]
        if (graph, len(images) == 1) in self._refused:
            raise RuntimeError(self._refused[graph, len(images) == 1])
        return call


@contextmanager
def _warned() -> Iterator[list[str]]:
    """The warnings that Renorm logs meanwhile."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("renorm")
    logger.addHandler(handler)
    try:
        yield warnings
    finally:
        logger.removeHandler(handler)


def _frozen(network: nn.Module, images: Tensor) -> Call:
    """The fastest that torch offers without adapting: folded, weights compiled in, for this one shape."""
    last = torch.channels_last
    model = torch.compile(_in_format(folded(network, images[:1]), last), dynamic=False)
    call = _answering(model, images.contiguous(memory_format=last))
    with inductor.patch(freezing=True):
        call()
    return call


def _in_format(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    return copy.deepcopy(network).to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def _answering(network: Callable[[Tensor], Tensor], images: Tensor) -> Call:
    @torch.no_grad()
    def call() -> Tensor:
        return network(images)

    return call


def _serving(model: AdaptiveModel, requests: Sequence[Request]) -> Call:
    return lambda: model.predict(requests)
