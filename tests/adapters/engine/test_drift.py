"""Drift: how far a stream's images are from clean ones, whatever the strategy and the size of its requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Baseline, Request, fit_baseline, names
from adapters.engine.drift import FARTHEST, HORIZON, assumed_baseline
from adapters.sites import Sites
from tests.nets import Tiny, images, seeded

CLEAN = images(400, seed=7)


def fitted(strategy: str = "adabn") -> AdaptiveModel:
    """A small network whose clean images are `CLEAN`."""
    baseline = fit_baseline(AdaptiveModel(seeded(Tiny), "source").moments(CLEAN))
    return AdaptiveModel(seeded(Tiny), strategy, baseline=baseline)


def drifts(model: AdaptiveModel, x: Tensor, sizes: Sequence[int], stream: str = "a") -> list[float]:
    return [model.predict([Request(part, stream)])[0].drift for part in torch.split(x, list(sizes))]


def by_hand(baseline: Baseline, moments: Tensor) -> float:
    """The formula as a loop in double precision over all images of a stream."""
    total, weights, squares = [0.0] * len(baseline.mean), 0.0, 0.0
    for row in moments.tolist():
        kept = 1 - 1 / HORIZON
        for c, value in enumerate(row):
            z = (value - float(baseline.mean[c])) / float(baseline.spread[c])
            total[c] = kept * total[c] + min(max(z, -FARTHEST), FARTHEST)
        weights, squares = kept * weights + 1, kept * kept * squares + 1
    expected = sum((t / weights) ** 2 for t in total) / len(total) - squares / weights**2
    return math.sqrt(max(expected, 0.0))


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 7], [12], [1, 2, 9]], ids=str)
def test_drift_is_its_formula_at_every_size_of_request(sizes: list[int]) -> None:
    model, x = fitted(), images(12, seed=3) * 1.5
    baseline = fit_baseline(model.moments(CLEAN))
    expected = by_hand(baseline, model.moments(x))
    assert expected > 0.5
    assert drifts(model, x, sizes)[-1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", names("adapter"))
def test_drift_is_the_same_under_every_strategy(name: str) -> None:
    """What the strategy has adapted to does not hide the shift."""
    x = images(40, seed=4) + 0.6
    assert drifts(fitted(name), x, [4] * 10) == pytest.approx(drifts(fitted("source"), x, [4] * 10), rel=1e-4)


def test_clean_images_show_little_and_shifted_ones_much() -> None:
    clean, shifted = images(64, seed=9), images(64, seed=9) + 1.0
    assert drifts(fitted(), clean, [1] * 64)[-1] < 0.25
    assert drifts(fitted(), shifted, [1] * 64)[-1] > 1.5


def test_drift_is_measured_per_stream() -> None:
    """Neighbours, queued requests and requests that are not learned from change nothing."""
    x, model, alone = images(9, seed=2) + 0.5, fitted(), fitted()
    glued = model.predict(
        [
            Request(x[:2], "a"),
            Request(5 + images(3), "b"),
            Request(x[2:5], "a"),
            Request(9 * x[:4], "a", update=False),
            Request(x[5:], "a"),
        ]
    )
    ours = [glued[0].drift, glued[2].drift, glued[4].drift]
    assert ours == pytest.approx(drifts(alone, x, [2, 3, 4]), rel=1e-4)
    assert glued[1].drift > 2 * max(ours)
    assert glued[3].drift > glued[2].drift


def test_adaptation_follows_where_the_strategy_does() -> None:
    x = images(320, seed=5) + 1.0
    for name, least, most in (("source", 0.0, 0.0), ("adabn", 0.8, 1.2)):
        model = fitted(name)
        answers = [model.predict([Request(part)])[0] for part in torch.split(x, 8)]
        assert least <= answers[-1].adaptation / answers[-1].drift <= most
        assert answers[0].adaptation <= answers[-1].adaptation


def test_a_reset_stream_has_seen_nothing() -> None:
    model, x = fitted(), images(3, seed=6) + 2
    first = drifts(model, x, [1, 2])
    model.reset("a")
    assert drifts(model, x, [1, 2]) == first


def test_one_absurd_image_is_forgotten() -> None:
    model = fitted()
    (absurd,) = drifts(model, 1e12 * images(1), [1])
    assert 10 < absurd <= FARTHEST
    assert drifts(model, images(256, seed=8), [1] * 256)[-1] < 0.4


def test_a_stream_that_is_restored_goes_on() -> None:
    model, other, x = fitted(), fitted(), images(6, seed=1) + 1
    expected = drifts(model, x, [2, 4])[-1]
    drifts(other, x[:2], [2])
    third = fitted()
    third.load_state_dict(other.state_dict())
    assert drifts(third, x[2:], [4]) == pytest.approx([expected], rel=1e-6)


def test_assumed_baseline_comes_from_the_trained_statistics() -> None:
    network = nn.BatchNorm1d(4).eval()
    model = AdaptiveModel(network, "source")
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    assert drifts(model, x, [1] * 64)[-1] < 0.3
    assert drifts(model, x + 2, [1] * 64, "b")[-1] == pytest.approx(2, rel=0.1)
    site = Sites(seeded(Tiny))[0]
    mean, spread = assumed_baseline(site, 100)
    assert torch.equal(mean[:6], site.mean)
    assert torch.allclose(mean[6:], 0.9 * site.var)
    assert torch.allclose(spread[6:], 0.6 * site.var + site.eps)


def test_a_channel_that_never_moves_keeps_the_drift_finite() -> None:
    moments = torch.cat([torch.randn(50, 2), torch.full((50, 2), 0.25)], 1)
    baseline = fit_baseline(moments)
    assert baseline.spread.min() > 0
    assert torch.isfinite(baseline.spread).all()
