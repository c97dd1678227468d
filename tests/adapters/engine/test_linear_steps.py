"""One matrix product per site is the loop of steps: any requests of any linear strategies, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import BN, AdaBN, AdaptiveModel, AlphaBN, Linear, Moments, RobustBN, Site, Source, Statistics, Weights
from adapters.engine.linear_steps import (
    LinearRequest,
    LinearSteps,
    correct,
    linear_inputs,
    mixing_weights,
    padded,
    pool,
    request_pooling,
)
from adapters.engine.moments import BatchMoments
from tests.nets import Tiny, images, seeded


@dataclass(frozen=True)
class Blend(Linear):
    """A plugin's own weights: a bit of everything, and a pace that grows with the request."""

    share: float = 0.25

    def weights(self, images: int) -> Weights:
        return Weights(self.share, 0.5, 0.5 - self.share, momentum=images / (images + 4), unbiased=images % 2 == 0)


@dataclass(frozen=True)
class Anchored(Linear):
    """A plugin that remembers nothing and extrapolates away from the source."""

    remembers: ClassVar[bool] = False

    def weights(self, images: int) -> Weights:
        return Weights(own=1.25, remembered=0.0, trained=-0.25, momentum=0.0, unbiased=True)


ADAPTERS: list[Linear] = [
    Source(),
    BN(),
    AlphaBN(),
    AlphaBN(source_weight=0.3, unbiased=True),
    AdaBN(),
    AdaBN(momentum=0.6, own=False, unbiased=True),
    AdaBN(momentum=1.0, reference_images=None),
    RobustBN(0.3),
    Blend(),
    Anchored(),
]


class Asked(NamedTuple):
    """A request: of which stream, with which strategy, how many images, and whether the stream learns from it."""

    stream: int
    adapter: Linear
    images: int
    update: bool


class Place(NamedTuple):
    """A site in double precision, and what all images of a forward show there."""

    site: Site
    seen: Moments


requests = st.lists(
    st.builds(Asked, st.integers(0, 2), st.sampled_from(ADAPTERS), st.integers(1, 4), st.booleans()),
    min_size=1,
    max_size=9,
)
singles = st.lists(
    st.builds(Asked, st.integers(0, 2), st.sampled_from(ADAPTERS), st.just(1), st.booleans()), min_size=1, max_size=9
)
maps = st.lists(st.sampled_from([1, 2, 9, 400]), min_size=1, max_size=3)


def places(pixels: Sequence[int], total: int, seed: int) -> list[Place]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = []
    for index, positions in enumerate(pixels):
        channels = index + 2
        site = Site(str(index), draw(channels), draw(channels).square() + 0.1, draw(channels), draw(channels), 1e-5)
        var = draw(total, channels).square() if positions > 1 else torch.zeros(total, channels, dtype=torch.float64)
        found.append(Place(site, Moments(2 * draw(total, channels), var, positions)))
    return found


def single(site: Site) -> Site:
    """In single precision."""
    return replace(site, **{name: getattr(site, name).float() for name in ("mean", "var", "weight", "bias")})


class Loop:
    """The reference: each request's own step, in their order, in double precision."""

    def __init__(self, asked: Sequence[Asked], places: Sequence[Place], start: dict[Any, list[Any]]) -> None:
        self.states = {key: list(states) for key, states in start.items()}
        self.used: list[list[Statistics]] = [[] for _ in places]
        first = 0
        for ask in asked:
            stop = first + ask.images
            for index, (site, seen) in enumerate(places):
                held = self.states.setdefault((ask.stream, ask.adapter), [])
                if len(held) == index:
                    held.append(ask.adapter.init(site))
                own = Moments(seen.mean[first:stop], seen.var[first:stop], seen.pixels)
                used, after = ask.adapter.step(site, held[index], own)
                shape = (ask.images, site.channels)
                self.used[index].append(Statistics(used.mean.expand(shape), used.var.expand(shape)))
                if ask.update:
                    held[index] = after
            first = stop


def lived(keys: Sequence[Any], places: Sequence[Place], seed: int) -> dict[Any, list[Any]]:
    """States that have moved from where streams start."""
    generator = torch.Generator().manual_seed(seed)

    def moved(part: Tensor) -> Tensor:
        return part + torch.rand(part.shape, generator=generator, dtype=torch.float64)

    return {key: [Statistics(*map(moved, place.site.trained)) for place in places] for key in keys}


def near(actual: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual.double(), expected, rtol=0.0, atol=2e-6 * scale)


def eager(parts: Sequence[LinearRequest], rows: Tensor, sites: Sequence[Site]) -> LinearSteps:
    return LinearSteps(parts, linear_inputs(parts, rows), sites)


def padded_steps(parts: Sequence[LinearRequest], rows: Tensor, sites: Sequence[Site]) -> LinearSteps:
    """As compiled graphs take them, which know tensors alone."""
    width = sum(2 * site.channels for site in sites)
    return LinearSteps((), padded(parts, rows, width), sites)


Form = Callable[[Sequence[LinearRequest], Tensor, Sequence[Site]], LinearSteps]
FORMS: list[Form] = [eager, padded_steps]
forms = st.sampled_from(FORMS)


def agree(form: Form, asked: Sequence[Asked], pixels: Sequence[int], seed: int, *, late: int = 0) -> None:
    """The last ``late`` sites are met only in this forward."""
    shown = places(pixels, sum(ask.images for ask in asked), seed)
    keys = list(dict.fromkeys((ask.stream, ask.adapter) for ask in asked if ask.adapter.remembers))
    known = shown[: len(shown) - late]
    start = lived(keys, known, seed)
    loop = Loop(asked, shown, start)
    rows = [torch.cat([part for state in start[key] for part in state]).float() for key in keys]
    given = torch.stack(rows) if rows else torch.empty(0, 0)
    before = given.clone()
    numbers = {key: index for index, key in enumerate(keys)}
    parts = [LinearRequest(a.adapter, a.images, numbers.get((a.stream, a.adapter)), a.update) for a in asked]
    steps = form(parts, given, [single(place.site) for place in known])
    for index, (site, seen) in enumerate(shown):
        both = torch.cat([seen.mean, seen.var], 1).float()
        used = steps.step(index, single(site), BatchMoments(both, seen.pixels))
        assert used.mean.dtype == used.var.dtype == torch.float32
        shape = (sum(ask.images for ask in asked), site.channels)
        near(used.mean.expand(shape), torch.cat([part.mean for part in loop.used[index]]))
        near(used.var.expand(shape), torch.cat([part.var for part in loop.used[index]]))
    assert torch.equal(given, before)
    if keys:
        found = steps.rows()[: len(keys)]
        if found.shape[1] == given.shape[1]:  # where nobody learned, late sites may be left to who completes the row
            found = torch.cat([found, *(single(p.site).row.expand(len(keys), -1) for p in shown[len(known) :])], 1)
        near(found, torch.stack([torch.cat([part for state in loop.states[key] for part in state]) for key in keys]))


MANY = settings(max_examples=80, deadline=None, derandomize=True)


@MANY
@given(forms, requests, maps, st.integers(0, 10**6))
def test_linear_steps_are_the_loop_of_steps(form: Form, asked: list[Asked], pixels: list[int], seed: int) -> None:
    agree(form, asked, pixels, seed)


@MANY
@given(forms, singles, maps, st.integers(0, 10**6))
def test_linear_steps_are_the_loop_for_single_images(
    form: Form, asked: list[Asked], pixels: list[int], seed: int
) -> None:
    agree(form, asked, pixels, seed)


@MANY
@given(requests, st.lists(st.sampled_from([1, 9]), min_size=2, max_size=3), st.integers(0, 10**6))
def test_a_site_met_in_this_very_forward_is_new_to_all(asked: list[Asked], pixels: list[int], seed: int) -> None:
    agree(eager, asked, pixels, seed, late=1)


@pytest.mark.parametrize("pixels", [1, 9])
@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_a_long_queue_of_one_stream_is_its_loop(adapter: Linear, pixels: int) -> None:
    asked = [Asked(0, adapter, 1 + index % 3, update=index % 5 != 4) for index in range(64)]
    for form in FORMS:
        agree(form, asked, [pixels], 5)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
def test_a_single_request_is_its_step(adapter: Linear) -> None:
    for images_shown in (1, 3):
        for update in (True, False):
            for form in FORMS:
                agree(form, [Asked(0, adapter, images_shown, update)], [1, 9], 6)


def test_weights_of_a_queue_are_those_of_the_moving_average() -> None:
    parts = (LinearRequest(RobustBN(0.5), 1, 0, True),) * 3
    how = mixing_weights(parts, 1, 9)
    assert how.unbiased is None
    assert how.weights.tolist() == [
        [0.5, 0.0, 0.0, 0.5, 0.0],
        [0.25, 0.5, 0.0, 0.25, 0.0],
        [0.125, 0.25, 0.5, 0.125, 0.0],
        [0.125, 0.25, 0.5, 0.125, 0.0],
    ]


@MANY
@given(requests, st.sampled_from([1, 9]))
def test_weights_of_strategies_that_average_sum_to_one(asked: list[Asked], pixels: int) -> None:
    keys = list(dict.fromkeys((a.stream, a.adapter) for a in asked if a.adapter.remembers))
    numbers = {key: index for index, key in enumerate(keys)}
    parts = tuple(LinearRequest(a.adapter, a.images, numbers.get((a.stream, a.adapter)), a.update) for a in asked)
    sums = mixing_weights(parts, len(keys), pixels).weights.sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sampled_from([0.0, 1e3]), st.integers(0, 10**6))
def test_pooling_is_the_pooling_of_each_request(sizes: list[int], offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean = offset + torch.randn(sum(sizes), 3, generator=generator)
    var = torch.rand(sum(sizes), 3, generator=generator)
    found = pool(torch.cat([mean, var], 1), request_pooling(sizes, torch.device("cpu")))
    expected = [
        Moments(m.double(), v.double(), 9).pooled()
        for m, v in zip(torch.split(mean, sizes), torch.split(var, sizes), strict=True)
    ]
    # The mean is as good as float32 holds it; what that does to the variance is its square, 1e-8 here.
    near(found[:, :3], torch.stack([pooled.mean for pooled in expected]))
    torch.testing.assert_close(found[:, 3:].double(), torch.stack([p.var for p in expected]), rtol=1e-6, atol=1e-6)


def test_correcting_the_bias_is_asked_for_request_by_request() -> None:
    pooled = torch.tensor([[1.0, 8.0], [1.0, 8.0], [1.0, 8.0]])
    found = correct(pooled, torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[1.0], [1.0], [3.0]]), 9)
    torch.testing.assert_close(found, torch.tensor([[1.0, 9.0], [1.0, 8.0], [1.0, 8 * 27 / 26]]))


@pytest.mark.parametrize("adapter", [Source(), AdaBN(own=False)], ids=repr)
def test_unused_moments_of_a_request_may_overflow(adapter: Linear) -> None:
    """Statistics that weigh nothing do no harm, as in `step` and in `model.eval()`: the answer is finite."""
    network = seeded(Tiny).eval()
    x = 1e25 * images(2)  # its variance is beyond float32
    answer = AdaptiveModel(network, adapter)(x, update=False)
    torch.testing.assert_close(answer, network(x).detach(), rtol=1e-5, atol=0.0)
