"""The whole adapting forward as compiled graphs, for the forwards that are common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter
from adapters.compilation.aot import Graph, compile_to, kept, loaded, traced
from adapters.compilation.exportable import Grouped, Linears, Traceable
from adapters.engine.drift import FirstSite
from adapters.engine.linear_steps import LinearSteps, padded
from adapters.engine.outcome import ForwardOutput
from adapters.engine.plan import Plan
from adapters.normalization.linear import as_linear
from adapters.sites import Sites
from adapters.state.memory import Layout

log = logging.getLogger("renorm")

SHAPES = 2
"""Shapes of image that graphs are made for: each takes its time, so further ones run eagerly."""

TOLERANCE = 1e-2
"""How far a graph's answers may be from the eager ones, in units of the largest: rounding is less in any precision."""


class GraphKey(NamedTuple):
    """Which graph a forward takes; everything else about it is an input, or an axis of any size."""

    adapter: AnyAdapter | None  # None: all linear strategies
    image: bool  # whether every request is a single image; for linear strategies whether there is but one image
    stream: bool  # whether there is one request only
    shape: tuple[int, ...]  # of an image


class CompiledGraph(NamedTuple):
    """A graph, and what its outputs mean."""

    graph: Graph
    site: int  # the first that it reaches
    pixels: int


class Compiled:
    """The graphs of one network, made when they are first needed.

    Two graphs serve all requests of all linear strategies in any mixture: one for a single image, and one for all
    else. For another strategy, which must be the model's ``own``, there are four: for one image or several, of one
    stream or of many, as long as all requests have one size, each stream one request, and no other strategy is in the
    forward. Streams that have learned, and strategies that read features, fit none. What fits no graph is left to the
    eager way, and so is all whose graph cannot be made or does not answer as the eager forward does; both is said once,
    as a warning.

    Args:
        network: in ``eval()`` and never changed again.
        sites: all of its sites, later calls of a layer included: run it once before.
        folder: where graphs are kept between processes.
    """

    def __init__(self, network: nn.Module, sites: Sites, own: AnyAdapter, layout: Layout, folder: Path) -> None:
        self._network, self._sites, self._own, self._layout, self._folder = network, sites, own, layout, folder
        self.known = len(sites)
        self._ready: dict[GraphKey, CompiledGraph | None] = {}
        self._told: set[str] = set()
        self.made = 0  # graphs, those that were found on disk included
        self.sealed = False  # whether no further graphs are made
        self.progress: Callable[[str], None] = log.info

    def run(self, plan: Plan, images: Tensor) -> ForwardOutput | None:
        """The forward as a graph, or None if it has to be run eagerly."""
        variant = self._variant(plan, tuple(images.shape[1:]))
        ready = None if variant is None else self._find(variant, images)
        if ready is None:
            return None
        steps = plan.groups[0].steps
        if isinstance(steps, LinearSteps):
            inputs = padded(steps.parts, steps.inputs.rows, self._width())
            given: Sequence[Tensor] = Linears.flattened(inputs)
        else:
            given = [steps.given]
        logits, moments, used, rows, far = ready.graph((images, *given))
        count = len(plan.groups[0].keys)
        none = logits.new_empty(len(logits), 0)
        return ForwardOutput(logits, FirstSite(ready.site, moments, used, ready.pixels), [rows[:count]], none, far)

    def make_all(self, image: Tensor) -> None:
        """Make every graph there can be for images like ``image`` ``[1, ...]``, and none afterwards."""
        for variant in self._variants(tuple(image.shape[1:])):
            self._make(variant, image)
        self.sealed = True

    def _variants(self, shape: tuple[int, ...]) -> list[GraphKey]:
        kinds = [GraphKey(None, one, one, shape) for one in (True, False)]
        if as_linear(self._own) is None:
            pairs = product((True, False), repeat=2)
            kinds += [GraphKey(self._own, image, stream, shape) for image, stream in pairs]
        return kinds

    def _variant(self, plan: Plan, shape: tuple[int, ...]) -> GraphKey | None:
        steps, one = plan.groups[0].steps, plan.images == 1
        if plan.offsets is not None or plan.reads_features:
            return self._refused("forwards of streams that have learned, or whose features are read, are not compiled")
        if len(plan.groups) > 1:
            return self._refused("forwards that mix strategies which are not linear with others are not compiled")
        if isinstance(steps, LinearSteps):
            return GraphKey(None, one, one, shape)
        if steps.adapter != self._own:
            return self._refused(f"only linear strategies and the model's own are compiled, not {steps.adapter}")
        if len(steps.groups) > 1 or steps.groups[0].rounds > 1:
            return self._refused("forwards with requests of different sizes, or several of a stream, are not compiled")
        streams = len(plan.groups[0].keys)
        return GraphKey(self._own, plan.images == streams, streams == 1, shape)

    def _find(self, variant: GraphKey, images: Tensor) -> CompiledGraph | None:
        if variant not in self._ready:
            shapes = {known.shape for known in self._ready}
            if self.sealed or (variant.shape not in shapes and len(shapes) >= SHAPES):
                self._say(f"no graph was made for {_words(variant)}")
                return None
            self._make(variant, images)
        return self._ready[variant]

    def _make(self, variant: GraphKey, images: Tensor) -> None:
        if variant not in self._ready:
            self._ready[variant] = self._made(variant, images[:1])

    def _made(self, variant: GraphKey, example: Tensor) -> CompiledGraph | None:
        try:
            module, examples, axes = self._examples(variant, example)
            program = traced(module, examples[0], axes)
            path = kept(program, self._folder)
            if not path.exists():
                self.progress(f"compiling {_words(variant)} (kept in {self._folder} for the next start)")
                started = time.perf_counter()
                compile_to(program, path)
                self.progress(f"compiled {_words(variant)} in {time.perf_counter() - started:.0f} s")
            ready = CompiledGraph(loaded(path), module.told.site, module.told.pixels)
            for inputs in examples:
                _compare(ready.graph(inputs), module(inputs))
        except Exception as error:
            # A network that cannot be traced, no compiler, no space on disk: the eager way serves all the same.
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._say(f"{_words(variant)} cannot be compiled: {type(error).__name__}: {reason}")
            return None
        self.made += 1
        return ready

    def _examples(
        self, variant: GraphKey, image: Tensor
    ) -> tuple[Traceable, list[tuple[Tensor, ...]], list[list[int]]]:
        """What to compile, inputs to trace and to try it with, and which of their axes may have any size.

        The numbers of requests, streams and images to trace with all differ, as do their sums: sizes that are equal
        would be taken for one.
        """
        if variant.adapter is None:
            linear = Linears(self._network, self._sites)
            cases: list[tuple[list[int], int]] = (
                [([1], 1)] if variant.image else [([2, 3, 6], 5), ([2], 1), ([1] * 7, 4)]
            )
            inputs = [linear.example(image, sizes, streams) for sizes, streams in cases]
            return linear, [tuple(case) for case in inputs], linear.axes(single=variant.image)
        grouped = Grouped(self._network, self._sites, variant.adapter, self._layout)
        counts = [1] if variant.image else [5, 2, 9]
        streams = [1] if variant.stream else [3, 2, 7]
        pairs = list(zip(counts * 3, streams * 3, strict=False))[: max(len(counts), len(streams))]
        inputs = [grouped.example(image, images, several) for images, several in pairs]
        one = variant.image and variant.stream
        return grouped, [tuple(case) for case in inputs], [[] if one else [0], [] if variant.stream else [0]]

    def _width(self) -> int:
        return sum(2 * site.channels for site in self._sites)

    def _refused(self, why: str) -> GraphKey | None:
        self._say(why)
        return None

    def _say(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            log.warning("running eagerly: %s", why)


def _compare(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """Refuse a graph that answers otherwise, as one does whose operations were chosen by the numbers of an example."""
    for mine, yours in zip(ours, theirs, strict=True):
        scale = max(1.0, float(yours.abs().max())) if yours.numel() else 1.0
        if mine.shape != yours.shape or not torch.allclose(mine / scale, yours / scale, rtol=0.0, atol=TOLERANCE):
            raise ValueError(
                "the graph's answers differ from the eager ones: it fits the sizes it was traced with only"
            )


def _words(variant: GraphKey) -> str:
    who = "linear strategies" if variant.adapter is None else type(variant.adapter).__name__
    single, request = variant.image, variant.stream
    what = (
        ("a single image" if single else "a single request")
        if request
        else ("single images" if single else "many requests")
    )
    return f"the forward of {who} for {what} of shape {list(variant.shape)}"
