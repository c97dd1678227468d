"""Linear strategies: which are taken at their weights, and that those with a step of their own are asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from adapters import (
    BN,
    AdaBN,
    Adapter,
    AdaptiveModel,
    AlphaBN,
    Linear,
    Moments,
    Request,
    RobustBN,
    Site,
    Source,
    Statistics,
    UnMixTNS,
    Weights,
    names,
    strategy,
)
from adapters.checks import check_adapter
from tests.nets import Head1d, Tiny, images, seeded


def test_linear_strategies() -> None:
    linear = {name for name in names("adapter") if isinstance(strategy(name), Linear)}
    assert linear == {"source", "bn", "alpha_bn", "adabn", "robust_bn", "tema"}
    assert all(a.linear for a in (Source(), BN(), AlphaBN(), AdaBN(), AdaBN(own=False), RobustBN()))
    assert not AdaBN(cumulative=True).linear
    assert not isinstance(UnMixTNS(), Linear)


def _site() -> Site:
    a, b, c, d = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    return Site("s", a, b.square() + 0.1, c, d, 1e-5)


@dataclass(frozen=True)
class Whole(Linear):
    """Every weight different."""

    def weights(self, images: int) -> Weights:
        return Weights(own=0.5, remembered=0.25, trained=0.125, momentum=0.75)


def test_a_step_is_the_weighted_sum_and_a_move_toward_the_request() -> None:
    site = _site()
    state = Statistics(site.mean + 1, site.var + 2)
    seen = Moments(torch.randn(3, 5), torch.rand(3, 5), 9)
    used, after = Whole().step(site, state, seen)
    for part in (0, 1):
        request, held, source = seen.pooled()[part], state[part], site.trained[part]
        torch.testing.assert_close(used[part], 0.5 * request + 0.25 * held + 0.125 * source)
        torch.testing.assert_close(after[part], 0.25 * held + 0.75 * request)


@dataclass(frozen=True)
class Forgetful(Whole):
    """Every weight different, and no state to weigh."""

    remembers: ClassVar[bool] = False


def test_without_memory_neither_state_nor_momentum_counts() -> None:
    site = _site()
    seen = Moments(torch.randn(3, 5), torch.rand(3, 5), 9)
    state = Forgetful().init(site)
    used, after = Forgetful().step(site, state, seen)
    assert after == state == ()
    torch.testing.assert_close(used.mean, 0.5 * seen.pooled().mean + 0.125 * site.mean)


def test_a_single_value_is_answered_from_memory_and_not_learned_from() -> None:
    site = _site()
    state = Statistics(site.mean + 1, site.var + 2)
    seen = Moments(torch.randn(1, 5), torch.zeros(1, 5), 1)
    used, after = Whole().step(site, state, seen)
    assert torch.equal(used.mean, state.mean)
    assert torch.equal(used.var, state.var)
    assert after is state
    assert torch.equal(Forgetful().step(site, (), seen)[0].var, site.var)
    assert Whole().step(site, state, Moments(torch.randn(2, 5), torch.zeros(2, 5), 1))[1] is not state


@dataclass(frozen=True)
class Stepping(Linear):
    """Uses what is remembered; its weights say otherwise."""

    def weights(self, images: int) -> Weights:
        return Weights(own=1.0, remembered=0.0, trained=0.0, momentum=1.0)

    def step(self, site: Site, state: Any, seen: Moments) -> tuple[Statistics, Any]:
        return Statistics(*state), state


@dataclass(frozen=True)
class Starting(Linear):
    """Starts from zero and one instead of the trained statistics, and stays there."""

    def weights(self, images: int) -> Weights:
        return Weights(own=0.0, remembered=1.0, trained=0.0, momentum=0.0)

    def init(self, site: Site) -> Any:
        return Statistics(torch.zeros_like(site.mean), torch.ones_like(site.var))


@dataclass(frozen=True)
class SteppingAdaBN(AdaBN):
    """Uses what is remembered, whatever its parent's weights say."""

    def step(self, site: Site, state: Any, seen: Moments) -> tuple[Statistics, Any]:
        return Statistics(*state), state


@dataclass(frozen=True)
class StartingAdaBN(AdaBN):
    """Starts from zero and one."""

    momentum: float = 1e-12

    def init(self, site: Site) -> Any:
        return Statistics(torch.zeros_like(site.mean), torch.ones_like(site.var))


@dataclass(frozen=True)
class SteppingRobustBN(RobustBN):
    """Uses what is remembered, whatever its parent's weights say."""

    def step(self, site: Site, state: Any, seen: Moments) -> tuple[Statistics, Any]:
        return Statistics(*state), state


OWN_STEP = [Stepping, Starting, SteppingAdaBN, StartingAdaBN, SteppingRobustBN]


@pytest.mark.parametrize("cls", OWN_STEP)
def test_a_subclass_with_a_step_or_start_of_its_own_is_not_taken_at_its_weights(cls: Callable[[], Linear]) -> None:
    assert not cls().linear


def _frozen(*, trained: bool) -> Tiny:
    """The network as a strategy that never moves serves it: from the trained statistics, or from zero and one."""
    network = seeded(Tiny).eval()
    assert network.bn.running_mean is not None
    assert network.bn.running_var is not None
    if not trained:
        network.bn.running_mean.zero_()
        network.bn.running_var.fill_(1.0)
    return network


@pytest.mark.parametrize("cls", OWN_STEP)
def test_a_subclass_with_a_step_or_start_of_its_own_is_served_by_it(cls: Callable[[], Linear]) -> None:
    model = AdaptiveModel(seeded(Tiny), cls())
    expected = _frozen(trained=cls not in (Starting, StartingAdaBN))
    sizes = (2, 1, 3)
    answers = model.predict([Request(images(n, n), stream) for n, stream in zip(sizes, "aab", strict=True)])
    for n, answer in zip(sizes, answers, strict=True):
        torch.testing.assert_close(answer.logits, expected(images(n, n)).detach(), rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class ByPixels(Linear):
    """Trusts a request by how many positions it has at a site."""

    remembers: ClassVar[bool] = False

    def weights(self, images: int) -> Weights:
        return Weights(0.5, 0.0, 0.5, 0.0)

    def weights_at(self, images: int, pixels: int) -> Weights:
        own = images * pixels / (images * pixels + 50)
        return Weights(own, 0.0, 1.0 - own, 0.0)


@pytest.mark.parametrize("sizes", [(4, 1), (1, 1)])
def test_weights_may_depend_on_the_positions_of_each_site(sizes: tuple[int, int]) -> None:
    """Two maps of different size in one forward; the reference is the same rule as a step of its own."""

    @dataclass(frozen=True)
    class ByStep(Adapter[Any]):
        def init(self, site: Site) -> Any:
            return ByPixels().init(site)

        def step(self, site: Site, state: Any, seen: Moments) -> tuple[Statistics, Any]:
            return ByPixels().step(site, state, seen)

    def build() -> torch.nn.Module:
        head = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.AdaptiveAvgPool2d(3), torch.nn.BatchNorm2d(6))
        return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), head)

    given = [Request(images(n, n), str(index)) for index, n in enumerate(sizes)]
    found, expected = (AdaptiveModel(seeded(build), adapter).predict(given) for adapter in (ByPixels(), ByStep()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("adapter", [Whole(), Forgetful(), Stepping(), SteppingRobustBN()], ids=repr)
def test_plugins_pass_the_battery(adapter: Linear) -> None:
    check_adapter(adapter)


def test_linear_strategies_share_one_block_whatever_their_hyperparameters() -> None:
    model = AdaptiveModel(seeded(Head1d), "adabn")
    adapters = [AdaBN(), AdaBN(momentum=0.5), RobustBN(), Whole(), Source(), BN(), AlphaBN(prior=3.0)]
    glued = model.predict([Request(images(2, k), "s", adapter) for k, adapter in enumerate(adapters)])
    for k, (adapter, answer) in enumerate(zip(adapters, glued, strict=True)):
        alone = AdaptiveModel(seeded(Head1d), adapter)(images(2, k))
        torch.testing.assert_close(answer.logits, alone, rtol=1e-5, atol=1e-5)
