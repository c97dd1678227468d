"""AdaptiveModel: a network whose BatchNorm statistics follow the streams it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter, Lesson
from adapters.compilation.aot import default_cache
from adapters.compilation.compiled import CompiledForwards, GraphFile
from adapters.composite import Strategy, as_composite
from adapters.engine.affine import AffineLayout
from adapters.engine.differentiable import LearningContext
from adapters.engine.drift import Baseline, fitting_baseline, read_drift
from adapters.engine.execution import Execution
from adapters.engine.explanations import explain
from adapters.engine.features import no_features_error
from adapters.engine.lessons import LessonRunner
from adapters.engine.network import channels_last, eager, full_precision, prepare_network, to_batch
from adapters.engine.outcome import ForwardOutput, add_evidence, to_outcome, withhold_outliers
from adapters.engine.outliers import BOUND
from adapters.engine.plan import Plan, PlannedRequest
from adapters.engine.request import Answer, Outcome, Request, check_finite, check_requests, one_lesson_each
from adapters.engine.waves import run_in_waves
from adapters.errors import InputError
from adapters.explanation import Explanation
from adapters.naming import strategy_or_default, to_strategy
from adapters.normalization.source import Source
from adapters.probes.independence import check_independence
from adapters.probes.lesson_memory import LessonMemory
from adapters.probes.reach import Reach, find_reach
from adapters.probes.spread import measure_spread
from adapters.sites import Sites
from adapters.state.arena import Arena
from adapters.state.memory import Layout, Memories, Memory, StateKey, initial
from adapters.state.size import NetworkShape, state_bytes
from adapters.state.snapshot import export_states, restore_states


class AdaptiveModel:
    """Wrap a network so that it adapts as it answers.

    >>> model = AdaptiveModel(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    >>> logits = model(torch.rand(4, 3, 16, 16))
    >>> model.reset()

    The network is copied, put into ``eval()`` and never changed again, nor is the caller's. Not for use by several
    threads at once.

    Args:
        model: any ``nn.Module`` with BatchNorm1d, 2d, 3d or SyncBatchNorm layers (subclasses included) that maps a
            tensor ``[n, ...]`` to a tensor ``[n, ...]``, or to a tuple, mapping or dataclass with one obvious tensor.
        strategy: a registered name, or several joined by plus signs, or an instance of an adapter or `Composite`.
        prepare: turns a batch of images as requests hold them into the network's input; by default they are that.
        device: where the network runs; by default where it is.
        dtype: type of weights and activations, such as ``torch.bfloat16``; statistics and states stay float32.
        copy: with false the network itself is taken over, for callers who have no other use for it.
        compile: whether forwards are compiled, the first of each kind or all by `warm_up`, and kept on disk.
        baseline: moments of clean images, the zero and the unit of `Answer.drift`, see `fit_baseline`; or assumed.
        bound: trained deviations beyond which no request is learned from, see `adapters.engine.outliers`; inf: none.
        params: hyperparameters of a strategy given by name.

    Raises:
        UnsupportedModelError, UnknownStrategyError, ParameterError: it cannot be adapted, or not in this way.
    """

    def __init__(
        self,
        model: nn.Module,
        strategy: str | Strategy = "auto",
        *,
        prepare: Callable[[Tensor], Tensor] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        copy: bool = True,
        compile: bool = False,
        baseline: Baseline | None = None,
        bound: float = BOUND,
        **params: Any,
    ) -> None:
        self.strategy = to_strategy(strategy, params)
        as_composite(self.strategy)  # refuses what is no strategy
        Sites(eager(model))  # refuses before anything is copied
        self._prepare, self._dtype, self._compile = prepare, dtype, compile
        self._network = prepare_network(model, None if device is None else torch.device(device), dtype, copied=copy)
        self.sites = Sites(self._network)
        self.device = self.sites[0].mean.device
        self._execution = Execution(self._network, self.sites)
        self._shown: NetworkShape | None = None
        self._memories = Arena()
        self._baseline, self._baselines, self._bound = baseline, dict[str, Baseline](), bound
        self._layout_of = lru_cache(8)(lambda adapter, _: initial(adapter, self.sites))  # by the number of sites too
        self._forgotten: tuple[str, ...] = ()
        self.lessons = LessonMemory()  # what they take, known after `warm_up`
        self._prepare_lessons()
        self.reach: Reach | None = None  # what learners can move: known before anything learns
        self.compiled: CompiledForwards | None = None

    def __call__(self, images: Tensor, *, stream: Hashable = "default", update: bool = True) -> Tensor:
        """Logits of one request of ``stream``; adapts as it answers."""
        return self.predict([Request(images, stream, update=update)])[0].logits

    def predict(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer many requests in one forward and commit their states; requests of one stream step in their order.

        Streams that learn do so before this returns, and of these a forward takes one request at a time.

        Raises:
            InputError: no request, images that do not fit together, or values that are not finite; nothing is changed.
        """
        self._check(requests)
        answers = []
        for group in one_lesson_each(requests, self._key):
            outcome = run_in_waves(self._forward, group, list(map(self._key, group)), self._memories)
            self._memories.update(outcome.memories)
            self._memories.update(self.learn(outcome.lessons, self._memories))
            answers += outcome.answers
        return answers

    def run(self, requests: Sequence[Request], memories: Memories) -> Outcome:
        """The pure form of `predict`, for callers with a memory of their own: what to answer, commit and `learn`.

        Raises:
            InputError: as in `predict`; also a request of a stream that has to learn from one before it.
        """
        self._check(requests)
        if len(list(one_lesson_each(requests, self._key))) > 1:
            raise InputError("two requests of one stream that learns: run the second after the lesson of the first")
        return run_in_waves(self._forward, requests, list(map(self._key, requests)), memories)

    def learn(self, lessons: Mapping[StateKey, Lesson], memories: Memories) -> dict[StateKey, Memory]:
        """Return the streams' memories after their lessons; pure. ``memories`` are those after the requests' commit.

        A stream is missing where an outcome of its lesson is not finite: it keeps its memory.
        """
        with full_precision(self.device):
            return self._school.learn(lessons, memories)

    def warm_up(self, image: Tensor, progress: Callable[[str], None] | None = None) -> None:
        """Run once, and make all graphs now if the model compiles; ``progress`` is told of each, which takes its time.

        ``image`` ``[1, ...]`` is an example as requests hold them; no stream learns from it.

        Raises:
            UnsupportedModelError: the network cannot be adapted, or its outputs depend on the other images of a batch.
        """
        for strategy in (Source(), self.strategy):  # two requests, because not every network can batch
            self.run([Request(image, stream, strategy, update=False) for stream in "ab"], {})
            if self.compiled is not None:
                self.compiled.progress = progress or self.compiled.progress
        if len(self._execution.reached) < len(self.sites) and not self._memories:
            self._forget_unreached()
            self.run([Request(image, update=False)], {})
        check_independence(self._hosted, image)
        self.reach = self.reach or find_reach(self._hosted, image[:2])
        self.lessons.measure(self._hosted, image)
        if self.compiled is not None:
            self.compiled.make_all(self._hosted.input(image))

    def load_graphs(self, files: Sequence[GraphFile]) -> None:
        """Run forwards by graphs that another process has made of the same model with the same strategy."""
        self.compiled = self._new_graphs(files)

    def _new_graphs(self, files: Sequence[GraphFile] = ()) -> CompiledForwards:
        parts = self._execution.head, self.adapter, self._layout(self.adapter), default_cache(), files
        return CompiledForwards(self._network, self.sites, *parts)

    def moments(self, images: Tensor) -> Tensor:
        """Moments of each image at the first site ``[n, 2C]``, which `fit_baseline` takes; no stream learns."""
        check_requests(requests := [Request(images, strategy=Source(), update=False)], raw=self._prepare is not None)
        return self._run_network(requests, {})[1].first.moments

    @property
    def unreached(self) -> tuple[str, ...]:
        """BatchNorm layers that no forward has reached so far: they are not adapted. `warm_up` forgets their sites."""
        reached = self._execution.reached
        return self._forgotten + tuple(site.name for index, site in enumerate(self.sites) if index not in reached)

    def reset(self, stream: Hashable | None = None) -> None:
        """Reset one stream, with every strategy, or all streams: the next request starts a new one."""
        for key in [key for key in self._memories if stream is None or key.stream == stream]:
            del self._memories[key]

    def state_bytes(self, strategy: Strategy | None = None) -> int:
        """Return the bytes of a stream's state with ``strategy``, or the model's own (drift's: after a forward).

        Raises InputError where it has a learner or a corrector, and there was no forward yet.
        """
        key = StateKey("", strategy or self.strategy)
        return state_bytes(key.strategy, self._layout(key.adapter), self._affines.size, self._shown)

    def check(self, strategy: Strategy) -> None:
        """Refuse a strategy that the network cannot be adapted with, as far as that is known before a forward.

        Raises:
            UnsupportedModelError: it reads features and the network has none, or no gradient reaches what it learns.
        """
        parts = as_composite(strategy)
        if self.reach is not None and parts.learner is not None:
            self.reach.check()
        if self._shown is not None and not self._shown.features and parts.needs_features:
            raise no_features_error()

    def explain(self, key: StateKey, memory: Memory | None) -> Explanation:
        """Return what the next answer of a stream with this memory leans on, and why; None is a new stream."""
        return explain(key, memory, self.sites, self._layout(key.adapter))

    def memories(self) -> Memories:
        """Return the memories of all streams, valid until the next request."""
        return self._memories

    def state_dict(self) -> dict[str, Any]:
        """All streams, as plain types and tensors: safe for ``torch.save`` and ``torch.load(weights_only=True)``."""
        return self.exported(self._memories)

    def exported(self, memories: Memories) -> dict[str, Any]:
        """The same for states that the caller stores."""
        return export_states(memories, self.sites)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all streams by exported ones.

        Raises:
            StateError: exported from another network or in another format; nothing is changed.
        """
        memories = restore_states(state, self.sites, self._layout, partial(strategy_or_default, self.strategy))
        self.reset()
        self._memories.update(memories)

    @property
    def adapter(self) -> AnyAdapter:
        """The adapter of requests that name no strategy."""
        return StateKey("", self.strategy).adapter

    def _key(self, request: Request) -> StateKey:
        return StateKey(request.stream, request.strategy or self.strategy)

    def _check(self, requests: Sequence[Request]) -> None:
        check_requests(requests, raw=self._prepare is not None)
        for request, key in zip(requests, map(self._key, requests), strict=True):
            if key.strategy.learner is not None:
                self.reach = self.reach or find_reach(self._hosted, request.images[:2])
                self.check(key.strategy)
            if key.adapter.reads_spread and not self.sites.has_spreads:
                self._measure_spread(request.images)

    def _measure_spread(self, images: Tensor) -> None:
        if not self._execution.reached:  # all sites are known after a forward
            self.run([Request(images, strategy=Source(), update=False)], {})
        self.sites.set_spreads(measure_spread(self._hosted, images[:1]))
        self._layout_of.cache_clear()

    def _forget_unreached(self) -> None:
        self._forgotten += self.sites.keep(self._execution.reached)
        self._execution.reached = frozenset(range(len(self.sites)))
        self._layout_of.cache_clear()
        self._prepare_lessons()

    def _prepare_lessons(self) -> None:
        """Everything that lessons need, for the sites that are known."""
        self._affines = AffineLayout(self.sites)
        self._hosted = LearningContext(
            self._network, self.sites, self._affines, self._layout, self._prepare, self._dtype
        )
        self._school = LessonRunner(self._hosted, lambda: self.lessons.together)

    def _layout(self, adapter: AnyAdapter) -> Layout:
        return self._layout_of(adapter, len(self.sites))

    def _forward(self, requests: Sequence[Request], memories: Memories) -> Outcome:
        plan, output = self._run_network(requests, memories)
        output = add_evidence(plan, withhold_outliers(plan, output, self._bound))
        ordered, site = [plan.requests[index] for index in plan.order], self.sites[output.first.site]
        if site.name not in self._baselines:  # a network may begin elsewhere, with images of another size
            baseline = None if self._baselines else self._baseline
            self._baselines[site.name] = fitting_baseline(baseline, site, output.first)
        with full_precision(self.device):
            reading = read_drift(site, output.first, self._baselines[site.name], ordered, memories)
            return to_outcome(plan, output, reading, memories)

    def _run_network(self, requests: Sequence[Request], memories: Memories) -> tuple[Plan, ForwardOutput]:
        planned = [PlannedRequest(self._key(r), len(r.images), r.update, r.images) for r in requests]
        plan = Plan(self.sites, planned, memories, self._layout, self._affines)
        batch = to_batch([requests[index].images for index in plan.order], self.device)
        check_finite(batch)
        with torch.no_grad():
            images = channels_last(batch if self._prepare is None else self._prepare(batch), self._dtype)
            if images.data_ptr() == requests[0].images.data_ptr():
                images = images.clone(memory_format=torch.preserve_format)  # networks may write to their input
            output = (self.compiled and self.compiled.run(plan, images)) or self._execution.run(plan, images)
            if self._shown is None:
                image, channels = requests[0].images[:1].clone(), self.sites[output.first.site].channels
                self._shown = NetworkShape(self._execution.head.width, output.logits.shape[-1], image, channels)
            if self._compile and (self.compiled is None or self.compiled.site_count != len(self.sites)):
                self.compiled = self._new_graphs()  # all sites are known
        return plan, output
