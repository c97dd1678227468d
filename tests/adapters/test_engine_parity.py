"""The engine against a network that knows nothing of it: layers that call `adapter.step`, one request at a time.

The reference is in double precision, and so is the network in it. What separates the two is the rounding of float32:
2e-5 of the largest value, and where an answer magnifies every rounding (normalized with the variance of four values,
say) what the same loop in single precision is off by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, AnyAdapter, Evidence, Key, Moments, Request, Site, names
from adapters import adapter as strategy
from adapters.checks.model import SmallNet
from adapters.state.memory import join
from tests.adapters.evidence_by_hand import EvidenceLoop
from tests.nets import Head1d, Twice, images, seeded

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in names("adapter")),
    ("alpha_bn", {"source_weight": 0.0}),
    ("alpha_bn", {"source_weight": 0.9, "unbiased": True}),
    ("alpha_bn", {"prior": 1.0}),
    ("adabn", {"momentum": 1.0, "reference_images": None}),
    ("adabn", {"momentum": 0.7, "own": False, "unbiased": True}),
    ("adabn", {"momentum": 0.5, "reference_images": 1}),
    ("adabn", {"cumulative": True}),
    ("adabn", {"cumulative": True, "own": False, "unbiased": True}),
    ("robust_bn", {"momentum": 1.0}),
    ("robust_bn", {"momentum": 0.4}),
    ("unmix_tns", {"components": 1, "momentum": 1.0}),
    ("unmix_tns", {"components": 4, "momentum": 0.6, "reference_images": None}),
    ("unmix_tns", {"start": "random", "seed": 3, "temperature": 0.5}),
    ("shrinkage", {"horizon": 8, "alarm": 0.1, "prior_images": 0, "adapted_depth": 1.0}),
]
# Not two or three: the variance of so few values at a site of one position may be next to nothing, and what is
# normalized with it magnifies every rounding.
SIZES = (5, 1, 4, 1, 1, 6, 4)
MIXED: list[AnyAdapter] = [strategy(*variant) for variant in VARIANTS[:: len(VARIANTS) // 5]]


def _name(variant: tuple[str, dict[str, Any]]) -> str:
    return "-".join([variant[0], *(f"{key}={value}" for key, value in variant[1].items())])


class ByStep(nn.Module):
    """In place of a BatchNorm: normalizes a request as `adapter.step` says, from ``states`` and into ``learned``.

    A layer that is called again in a forward is a site of its own, as the engine counts them.
    """

    def __init__(self, name: str, layer: nn.Module, depth: float) -> None:
        super().__init__()
        self.name, self.layer, self.depth, self.calls = name, layer, depth, 0
        self.adapter: AnyAdapter
        self.states: dict[str, Any]
        self.learned: dict[str, Any]
        self.evidence: Evidence | None
        self.spreads: dict[str, tuple[float, float]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        site = self.site(self.name if self.calls == 1 else f"{self.name}#{self.calls}")
        values = x.reshape(*x.shape[:2], -1)
        seen = Moments(values.mean(2), values.var(2, correction=0), values.shape[2], self.evidence)
        state = self.states[site.name] if site.name in self.states else self.adapter.init(site)
        used, self.learned[site.name] = self.adapter.step(site, state, seen)
        mean, var = (part.expand(x.shape[:2])[:, :, None] for part in used)
        normal = (values - mean) / (var + site.eps).sqrt()
        return (normal * site.weight[:, None] + site.bias[:, None]).reshape(x.shape)

    def site(self, name: str) -> Site:
        given: Any = self.layer
        tensors = given.running_mean, given.running_var, given.weight.data, given.bias.data
        return Site(name, *tensors, given.eps, self.depth, *self.spreads.get(name, (math.inf, math.inf)))


class Reference:
    """The network, and the states of streams by the names of sites."""

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float64) -> None:
        self.network, self.dtype = network.to(dtype).eval(), dtype
        self.states: dict[Key, dict[str, Any]] = {}
        self.steps: dict[Key, int] = {}
        self.evidence: dict[Key, EvidenceLoop] = {}
        self.layers: list[ByStep] = []
        self.spreads: dict[str, tuple[float, float]] = {}
        modules = list(network.named_modules())
        found = [(name, layer) for name, layer in modules if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        for index, (name, layer) in enumerate(found):
            owner, _, attribute = name.rpartition(".")
            self.layers.append(ByStep(name, layer, index / max(1, len(found) - 1)))
            setattr(network.get_submodule(owner), attribute, self.layers[-1])

    def answer(self, request: Request) -> Tensor:
        assert request.strategy is not None
        key = Key(request.stream, request.strategy)
        learned: dict[str, Any] = {}
        reads = key.adapter.reads_evidence
        loop = self.evidence.setdefault(key, EvidenceLoop()) if reads else None
        for layer in self.layers:
            layer.evidence = None if loop is None else loop.evidence(self.dtype)
            layer.spreads = self.spreads
            layer.adapter, layer.states, layer.learned, layer.calls = key.adapter, self.states.get(key, {}), learned, 0
        with torch.no_grad():
            logits: Tensor = self.network(request.images.to(self.dtype))
        if request.update:
            self.states[key] = learned
            self.steps[key] = self.steps.get(key, 0) + 1
            if loop is not None:
                loop.add(logits, partial(self._mixture, learned, key.adapter))
        return logits

    def _mixture(self, states: dict[str, Any], adapter: Any, mixture: float) -> float:
        """Whether domains are mixed: how far contrast differs at half of the layers, by what images show."""
        ratios = list[float]()
        for layer in self.layers:
            sites = [layer.site(name) for name in states if name.partition("#")[0] == layer.name]
            measured = [site for site in sites if math.isfinite(site.contrast_spread)]
            adapted = [site for site in measured if site.depth <= adapter.adapted_depth]
            ratios += [float(states[site.name].contrast[0]) / site.contrast_spread for site in adapted]
        level = float(np.median(ratios)) if ratios else 0.0
        return float(level > adapter.mixture or (level > 0.2 and mixture > 0.0))

    def row(self, key: Key, sites: Sequence[str]) -> Tensor:
        states = join([self.states[key][name] for name in sites])
        head = self.evidence.get(key)
        return states if head is None else torch.cat([head.row().to(states), states])


@dataclass(frozen=True)
class Case:
    """A network, the size of its images, and its sites in the engine's order."""

    build: Callable[[], nn.Module]
    size: int
    sites: tuple[str, ...]


CASES = {
    "small": Case(SmallNet, 8, ("bn", "bn1d")),
    "twice": Case(Twice, 12, ("bn", "last", "bn#2")),
    "head1d": Case(Head1d, 12, ("along", "bn")),
}


def near(actual: Tensor, expected: Tensor, single: Tensor) -> None:
    if expected.numel():
        scale, rounding = max(1.0, float(expected.abs().max())), float((single - expected).abs().max())
        torch.testing.assert_close(actual.double(), expected, rtol=0.0, atol=2e-5 * scale + 8 * rounding)


def agree(case: Case, forwards: Sequence[Sequence[Request]]) -> None:
    """Each forward of the engine answers, and leaves behind, what its requests do one by one in the reference."""
    model, reference = AdaptiveModel(seeded(case.build)), Reference(seeded(case.build))
    single = Reference(seeded(case.build), torch.float32)
    for requests in forwards:
        answers = model.predict(requests)
        spreads = {site.name: (site.spread, site.contrast_spread) for site in model.sites}
        reference.spreads = single.spreads = spreads
        expected = [(reference.answer(request), single.answer(request)) for request in requests]
        for answer, pair in zip(answers, expected, strict=True):
            near(answer.logits, *pair)
    streams = model.state_dict()["streams"]
    assert len(streams) == len(reference.states)
    for entry in streams:
        key = Key(entry["stream"], strategy(entry["strategy"], entry["params"]))
        rows = (kept.row(key, case.sites) for kept in (reference, single))
        near(entry["row"], *rows)
        assert entry["steps"] == reference.steps[key]


def asked(adapters: Sequence[AnyAdapter], size: int, count: int, seed: int) -> list[Request]:
    """Requests of several streams, some of several images, some that nothing is learned from."""
    return [
        Request(images(SIZES[k % 7], seed + k, size), "abc"[k % 3], adapters[k % len(adapters)], update=k % 5 != 3)
        for k in range(count)
    ]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", VARIANTS, ids=_name)
def test_the_engine_is_the_loop_of_steps(variant: tuple[str, dict[str, Any]], case: str) -> None:
    adapter, size = strategy(*variant), CASES[case].size
    forwards = [asked([adapter], size, count, seed) for count, seed in ((1, 0), (7, 10), (2, 20), (1, 30))]
    agree(CASES[case], forwards)


@pytest.mark.parametrize("case", CASES)
def test_the_engine_is_the_loop_for_mixed_strategies(case: str) -> None:
    size = CASES[case].size
    agree(CASES[case], [asked(MIXED, size, count, seed) for count, seed in ((11, 0), (16, 20), (1, 40))])


@pytest.mark.parametrize("variant", VARIANTS[: len(names("adapter"))], ids=_name)
def test_the_engine_is_the_loop_for_32_streams_and_a_queue_of_32(variant: tuple[str, dict[str, Any]]) -> None:
    adapter = strategy(*variant)
    streams = [Request(images(1, k, 8), k, adapter) for k in range(32)]
    queue = [Request(images(1, k, 8), 0, adapter) for k in range(32)]
    agree(CASES["small"], [streams, queue])


@pytest.mark.parametrize("variant", VARIANTS, ids=_name)
def test_the_engine_is_the_loop_for_one_position_and_alternating_sizes(variant: tuple[str, dict[str, Any]]) -> None:
    adapter = strategy(*variant)
    agree(CASES["small"], [asked([adapter], size, 4, 50 + size) for size in (1, 6, 1, 9)])


def test_every_strategy_is_compared() -> None:
    assert {name for name, _ in VARIANTS} == set(names("adapter"))


def test_the_reference_is_torchs_own_where_that_is_known() -> None:
    """Trained statistics in `eval()`, and those of the request in `train()`."""
    x = images(3, 1, 8)
    for name, training in (("source", False), ("bn", True)):
        expected = seeded(SmallNet).double().train(training)(x.double()).detach()
        found = Reference(seeded(SmallNet)).answer(Request(x, "a", strategy(name)))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
