"""Source is `model.eval()`, and glued is separate, for every strategy on every kind of network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import pytest
import timm
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Key, Request, names, strategy
from adapters.engine.request import Outcome
from adapters.state.memory import Memory
from app.models.resnet20 import ResNet20
from tests.nets import Dense, Head1d, PreActivation, Tiny, Twice, Volume, images, seeded


def _timm(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=10)
    return network


@dataclass(frozen=True)
class Case:
    """A network, the size of its images, and how many sites it has."""

    build: Callable[[], nn.Module]
    size: int
    sites: int


CASES = {
    "tiny": Case(Tiny, 16, 1),
    "resnet20": Case(ResNet20, 32, 19),
    "pre_activation": Case(PreActivation, 16, 4),
    "dense": Case(Dense, 16, 4),
    "twice": Case(Twice, 16, 3),
    "head1d": Case(Head1d, 16, 2),
    "volume": Case(Volume, 8, 1),
    "sync": Case(lambda: nn.SyncBatchNorm.convert_sync_batchnorm(ResNet20()), 32, 19),  # type: ignore[no-untyped-call]
    # At 64 px their last maps have four positions. A single image normalized by four values alone is badly conditioned:
    # one unit in the last place of its pixels moves such an answer by 2e-5 to 8e-5. With nine positions 1e-5 holds.
    "efficientnet_b0": Case(partial(_timm, "efficientnet_b0"), 96, 49),
    "regnetx_002": Case(partial(_timm, "regnetx_002"), 96, 44),
    "mobilenetv3_small_100": Case(partial(_timm, "mobilenetv3_small_100"), 64, 34),
    "densenet121": Case(partial(_timm, "densenet121"), 64, 121),
}


@cache
def _network(name: str) -> nn.Module:
    return seeded(CASES[name].build).eval()


@cache
def _model(name: str) -> AdaptiveModel:
    """A model that is only run: it remembers nothing."""
    return AdaptiveModel(_network(name), "source")


def _answer(name: str, x: Tensor, strategy_name: str = "source") -> Tensor:
    return _model(name).run([Request(x, strategy=strategy(strategy_name))], {}).answers[0].logits


@cache
def _beside(name: str, strategy_name: str) -> Outcome:
    """What the first request of a stream leads to that is sent beside each strategy."""
    request = Request(images(1, 3, CASES[name].size) - 1, "a", strategy(strategy_name))
    return _model(name).run([request], {})


def _near(actual: Tensor, expected: Tensor) -> None:
    """1e-5, absolutely up to 1; relative to the largest logit where random weights make logits larger than that."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", CASES)
def test_source_is_the_network_in_eval_mode(name: str) -> None:
    network, x = _network(name), images(3, size=CASES[name].size)
    with torch.no_grad():
        expected = network(x)
        again = network(x + 1)
    assert float((expected - again).abs().max()) > 1e-3  # a network that ignores its images would pass anything
    _near(_answer(name, x), expected)
    _near(_answer(name, x + 1), again)
    assert len(_model(name).sites) == CASES[name].sites


@pytest.mark.parametrize("strategy_name", names("adapter"))
@pytest.mark.parametrize("name", CASES)
def test_glued_is_separate(name: str, strategy_name: str) -> None:
    """Several streams, n and strategies in one forward, and requests of one stream scanned in order."""
    model, size, own = _model(name), CASES[name].size, strategy(strategy_name)
    other = "unmix_tns" if strategy_name != "unmix_tns" else "adabn"
    requests = [
        Request(images(2, 1, size), "a", own),
        Request(images(1, 2, size) + 1, "b", own),
        Request(images(1, 3, size) - 1, "a", strategy(other)),
        Request(images(3, 4, size), "a", own),
    ]
    glued = model.run(requests, {})
    memories: dict[Key, Memory] = {}
    for request, answer in zip(requests, glued.answers, strict=True):
        is_beside = request.strategy == strategy(other)
        outcome = _beside(name, other) if is_beside else model.run([request], memories)
        memories.update(outcome.memories)
        _near(answer.logits, outcome.answers[0].logits)
        assert answer.step == outcome.answers[0].step
        assert answer.drift == pytest.approx(outcome.answers[0].drift, rel=1e-4)
    assert glued.memories.keys() == memories.keys()
    for key, memory in glued.memories.items():
        if len(memory.row):
            _near(memory.row, memories[key].row)


@pytest.mark.parametrize("name", CASES)
def test_every_strategy_answers_otherwise_than_source(name: str) -> None:
    x = images(4, 5, CASES[name].size)
    source = _answer(name, x)
    for adapting in ("bn", "alpha_bn", "adabn", "robust_bn", "unmix_tns"):
        logits = _answer(name, x, adapting)
        assert logits.isfinite().all()
        assert float((logits - source).abs().max()) > 1e-4, adapting


def test_batch_statistics_are_those_of_train_mode() -> None:
    """For `bn` on every site of a deep network at once: torch's own train mode, without dropout, is the reference."""
    for name in ("resnet20", "pre_activation", "dense", "twice", "densenet121"):
        network, x = seeded(CASES[name].build), images(4, 6, CASES[name].size)
        with torch.no_grad():
            expected = network.train()(x)
        _near(_answer(name, x, "bn"), expected)
