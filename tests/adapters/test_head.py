"""Features: the input of the layer that a network ends in, found by watching, read only when asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Request, UnsupportedModelError, strategy
from adapters.head import Head
from tests.nets import Tiny, images, seeded


class TwoHeads(nn.Module):
    """Several linear layers, of which the one that is called last is neither the last nor the first of the modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.answer, self.unused = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.answer(torch.relu(self.first(x)))
        return logits


class Scaled(nn.Module):
    """A network whose output is not that of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.linear = nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 2.0 * self.linear(self.bn(x).mean((2, 3)))
        return logits


def _run(head: Head, network: nn.Module, x: Tensor, *, asked: bool) -> Tensor:
    with head.watched(asked=asked):
        logits = network(x)
    return head.features(logits)


def test_features_are_what_the_last_layer_is_given_whether_asked_for_first_or_later() -> None:
    network, x = seeded(TwoHeads), torch.randn(5, 4)
    expected = torch.relu(network.first(x))
    at_once, later = Head(network), Head(network)
    assert torch.equal(_run(at_once, network, x, asked=True), expected)
    assert _run(later, network, x, asked=False).shape == (5, 0)
    assert later.width == 6
    assert torch.equal(_run(later, network, x, asked=True), expected)


def test_nothing_is_left_on_the_network() -> None:
    network = seeded(TwoHeads)
    head = Head(network)
    for asked in (False, True, False):
        _run(head, network, torch.randn(2, 4), asked=asked)
        assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(RuntimeError), head.watched(asked=True):
        network(torch.randn(2, 5))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_does_not_end_in_a_linear_layer_says_so() -> None:
    model = AdaptiveModel(Scaled(), "adabn")
    lame = strategy("adabn+lame")
    with pytest.raises(UnsupportedModelError, match=r"end the network in nn\.Linear"):
        model.predict([Request(images(2), strategy=lame)])
    assert not model.memories()
    model(images(1))
    with pytest.raises(UnsupportedModelError, match=r"end the network in nn\.Linear"):
        model.check(lame)
    for fine in ("adabn+cofa", "tent", "temperature"):
        model.check(strategy(fine))
        assert model.predict([Request(images(2), strategy=strategy(fine))])[0].finite


def test_correctors_refuse_answers_that_are_not_one_row_an_image() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(UnsupportedModelError, match=r"refine answers \[n, classes\], and this network gives \[2, 4"):
        AdaptiveModel(network, "cofa")(images(2))


def test_requests_with_and_without_features_share_a_forward() -> None:
    glued, alone = AdaptiveModel(seeded(Tiny)), AdaptiveModel(seeded(Tiny))
    kinds = ["adabn", "adabn+lame", "unmix_tns", "lame"]
    for step in range(4):
        requests = [Request(images(3, step), name, strategy(name)) for name in kinds]
        for ours, theirs in zip(glued.predict(requests), map(alone.predict, [[r] for r in requests]), strict=True):
            torch.testing.assert_close(ours.logits, theirs[0].logits, rtol=1e-5, atol=1e-5)
