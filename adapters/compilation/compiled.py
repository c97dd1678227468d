"""The whole adapting forward as compiled graphs, for the common kinds of forwards."""

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
from adapters.compilation.aot import Graph, cache_path, compile_to, load_graph, trace
from adapters.compilation.exportable import ExportableForward, GroupedForward, LinearForward
from adapters.engine.drift import FirstSite
from adapters.engine.features import Head
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
    """The key of a forward's graph; everything else about a forward is an input, or an axis of any size."""

    adapter: AnyAdapter | None  # None: all linear strategies
    image: bool  # whether every request is a single image; for linear strategies whether there is but one image
    stream: bool  # whether there is one request only
    shape: tuple[int, ...]  # of an image


class CompiledGraph(NamedTuple):
    """A graph and the meaning of its outputs."""

    graph: Graph
    site: int  # the first that it reaches
    pixels: int


class GraphFile(NamedTuple):
    """A graph on disk, for other processes that host the same model."""

    key: GraphKey
    path: Path
    site: int
    pixels: int


class CompiledForwards:
    """The graphs of one network, made when they are first needed.

    Two graphs serve all requests of all linear strategies in any mixture: one for a single image, and one for all
    else. For another strategy, which must be the model's ``default``, there are four: for one image or several, of one
    stream or of many, as long as all requests have one size, each stream one request, and no other strategy is in the
    forward. Streams that have learned fit none. What fits no graph is left to the eager way, and so is all whose graph
    cannot be made or does not answer as the eager forward does; both is said once, as a warning.

    Args:
        network: in ``eval()`` and never changed again.
        sites: all of its sites, later calls of a layer included: run it once before.
        head: which reads features, and knows from that forward where they are.
        folder: where graphs are kept between processes.
        files: graphs that another process has made, and tried, for the same model; then no others are made.
    """

    def __init__(
        self,
        network: nn.Module,
        sites: Sites,
        head: Head,
        default: AnyAdapter,
        layout: Layout,
        folder: Path,
        files: Sequence[GraphFile] = (),
    ) -> None:
        self._network, self._sites, self._head, self._folder = network, sites, head, folder
        self._default, self._layout = default, layout
        self.files = list(files)
        self.site_count = len(sites)
        self._graphs: dict[GraphKey, CompiledGraph | None] = {
            file.key: CompiledGraph(load_graph(file.path), file.site, file.pixels) for file in files
        }
        self._reasons: set[str] = set()
        self.graph_count = len(files)  # graphs, those that were found on disk included
        self.is_sealed = len(files) > 0  # whether no further graphs are made
        self.progress: Callable[[str], None] = log.info

    def run(self, plan: Plan, images: Tensor) -> ForwardOutput | None:
        """Run the forward as a graph; None if it has to be run eagerly."""
        key = self._key_of(plan, tuple(images.shape[1:]))
        graph = None if key is None else self._find(key, images)
        if graph is None:
            return None
        steps = plan.groups[0].steps
        if isinstance(steps, LinearSteps):
            width = sum(2 * site.channels for site in self._sites)
            inputs = LinearForward.flattened(padded(steps.requests, steps.inputs.rows, width))
        else:
            inputs = [steps.initial_rows]
        logits, moments, statistics, rows, far, features = graph.graph([images, *inputs])
        count = len(plan.groups[0].keys)
        features = features if plan.reads_features else features[:, :0]
        first = FirstSite(graph.site, moments, statistics, graph.pixels)
        return ForwardOutput(logits, first, [rows[:count]], features, far)

    def make_all(self, image: Tensor) -> None:
        """Make all possible graphs for images like ``image`` ``[1, ...]``, and none afterwards."""
        for key in self._keys(tuple(image.shape[1:])):
            if key not in self._graphs:
                self._graphs[key] = self._build(key, image)
        self.is_sealed = True

    def _keys(self, shape: tuple[int, ...]) -> list[GraphKey]:
        kinds = [GraphKey(None, is_single, is_single, shape) for is_single in (True, False)]
        if as_linear(self._default) is None:
            pairs = product((True, False), repeat=2)
            kinds += [GraphKey(self._default, image, stream, shape) for image, stream in pairs]
        return kinds

    def _key_of(self, plan: Plan, shape: tuple[int, ...]) -> GraphKey | None:
        steps, is_single = plan.groups[0].steps, plan.images == 1
        if plan.offsets is not None:
            return self._decline("forwards of streams that have learned are not compiled")
        if len(plan.groups) > 1:
            return self._decline("forwards that mix strategies which are not linear with others are not compiled")
        if isinstance(steps, LinearSteps):
            return GraphKey(None, is_single, is_single, shape)
        if steps.adapter != self._default:
            return self._decline(f"only linear strategies and the model's own are compiled, not {steps.adapter}")
        if len(steps.groups) > 1 or steps.groups[0].rounds > 1:
            return self._decline("forwards with requests of different sizes, or several of a stream, are not compiled")
        streams = len(plan.groups[0].keys)
        return GraphKey(self._default, plan.images == streams, streams == 1, shape)

    def _find(self, key: GraphKey, images: Tensor) -> CompiledGraph | None:
        if key not in self._graphs:
            shapes = {key.shape for key in self._graphs}
            if self.is_sealed or (key.shape not in shapes and len(shapes) >= SHAPES):
                self._warn_once(f"no graph was made for {_describe(key)}")
                return None
            self._graphs[key] = self._build(key, images[:1])
        return self._graphs[key]

    @torch.enable_grad()  # torch 2.13 cannot compile some programs where gradients are off
    def _build(self, key: GraphKey, example: Tensor) -> CompiledGraph | None:
        try:
            module, examples, axes = self._examples(key, example)
            program = trace(module, examples[0], axes)
            path = cache_path(program, self._folder)
            if not path.exists():
                self.progress(f"compiling {_describe(key)} (kept in {self._folder} for the next start)")
                started = time.perf_counter()
                compile_to(program, path)
                self.progress(f"compiled {_describe(key)} in {time.perf_counter() - started:.0f} s")
            graph = CompiledGraph(load_graph(path), module.trace_info.site, module.trace_info.pixels)
            for inputs in examples:
                _compare(graph.graph(list(inputs)), module(inputs))
            self.files.append(GraphFile(key, path, graph.site, graph.pixels))
        except Exception as error:
            # A network that cannot be traced, no compiler, no space on disk: run eagerly instead.
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._warn_once(f"{_describe(key)} cannot be compiled: {type(error).__name__}: {reason}")
            return None
        self.graph_count += 1
        return graph

    def _examples(
        self, key: GraphKey, image: Tensor
    ) -> tuple[ExportableForward, list[tuple[Tensor, ...]], list[list[int]]]:
        """Return the module to compile, inputs to trace and to try it with, and their axes of any size.

        The numbers of requests, streams and images to trace with all differ, as do their sums: sizes that are equal
        would be taken for one.
        """
        if key.adapter is None:
            linear = LinearForward(self._network, self._sites, self._head)
            cases: list[tuple[list[int], int]] = [([1], 1)] if key.image else [([2, 3, 6], 5), ([2], 1), ([1] * 7, 4)]
            inputs = [linear.example(image, sizes, streams) for sizes, streams in cases]
            return linear, [tuple(case) for case in inputs], linear.axes(single=key.image)
        grouped = GroupedForward(self._network, self._sites, self._head, key.adapter, self._layout)
        counts = [1] if key.image else [5, 2, 9]
        streams = [1] if key.stream else [3, 2, 7]
        pairs = list(zip(counts * 3, streams * 3, strict=False))[: max(len(counts), len(streams))]
        inputs = [grouped.example(image, images, several) for images, several in pairs]
        is_single = key.image and key.stream
        return grouped, [tuple(case) for case in inputs], [[] if is_single else [0], [] if key.stream else [0]]

    def _decline(self, reason: str) -> GraphKey | None:
        self._warn_once(reason)
        return None

    def _warn_once(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warning("running eagerly: %s", reason)


def _compare(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Refuse a graph with other outputs, as where operations were chosen by the numbers of an example."""
    for output, target in zip(outputs, map(_aligned, expected, outputs), strict=True):
        scale = max(1.0, float(target.abs().max())) if target.numel() else 1.0
        if output.shape != target.shape or not torch.allclose(output / scale, target / scale, rtol=0.0, atol=TOLERANCE):
            raise ValueError(
                "the outputs of the graph differ from the eager ones: it is specialized to the traced sizes"
            )


def _aligned(target: Tensor, output: Tensor) -> Tensor:
    """Return the target with a row for each image, where it has one for all of them and the output does not."""
    is_shared = target.dim() == output.dim() and target.dim() > 0 and len(target) == 1
    return target.expand(len(output), *target.shape[1:]) if is_shared else target


def _describe(key: GraphKey) -> str:
    strategy = "linear strategies" if key.adapter is None else type(key.adapter).__name__
    names = {(True, True): "a single image", (True, False): "single images", (False, True): "a single request"}
    requests = names.get((key.image, key.stream), "many requests")
    return f"the forward of {strategy} for {requests} of shape {list(key.shape)}"
