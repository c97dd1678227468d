"""Layers that call BatchNorm in ways of their own: what they pass is what counts, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters import AdaptiveModel, Request
from adapters.engine.drift import FARTHEST


class PlusOne(nn.BatchNorm2d):
    """Stores its weight centred at zero."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight + 1, self.bias, False, 0.0, self.eps)


class Positive(nn.BatchNorm2d):
    """Uses the absolute weight, another eps, and keywords."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.abs() + 0.1
        return F.batch_norm(x, self.running_mean, self.running_var, weight=weight, bias=self.bias, eps=0.05)


class After(nn.BatchNorm2d):
    """Applies its affine itself, and in another order."""

    def forward(self, x: Tensor) -> Tensor:
        normal = F.batch_norm(x, self.running_mean, self.running_var)
        return (normal + self.bias[:, None, None]) * self.weight[:, None, None]


class Direct(nn.BatchNorm2d):
    """Calls the function behind ``F.batch_norm``."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var, False, 0.1, self.eps, False
        )


def shared_statistics() -> nn.Sequential:
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    second.running_mean, second.running_var = first.running_mean, first.running_var
    return nn.Sequential(first, second)


NETS: dict[str, Callable[[], nn.Sequential]] = {
    "PlusOne": lambda: nn.Sequential(PlusOne(3)),
    "Positive": lambda: nn.Sequential(Positive(3)),
    "After": lambda: nn.Sequential(After(3)),
    "Direct": lambda: nn.Sequential(Direct(3)),
    "shared": shared_statistics,
}


def trained(name: str) -> nn.Sequential:
    torch.manual_seed(5)
    network = NETS[name]()
    for layer in network:
        assert isinstance(layer, nn.BatchNorm2d)
        layer.weight.data.normal_()
        layer.bias.data.normal_()
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("name", NETS)
def test_source_is_the_network_and_others_adapt_it(name: str) -> None:
    network, x = trained(name), 2 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1)) + 1
    expected = network(x).detach()
    assert torch.allclose(AdaptiveModel(network, "source")(x), expected, atol=1e-5)
    assert not torch.allclose(AdaptiveModel(network, "bn")(x), expected, atol=1e-2)


def test_the_affine_of_the_call_follows_the_adapted_statistics() -> None:
    network, x = trained("PlusOne"), torch.randn(4, 3, 5, 5)
    layer = network[0]
    assert isinstance(layer, PlusOne)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    normal = (x - mean[:, None, None]) / (var + layer.eps).sqrt()[:, None, None]
    expected = normal * (layer.weight + 1)[:, None, None] + layer.bias[:, None, None]
    assert torch.allclose(AdaptiveModel(network, "bn")(x), expected.detach(), atol=1e-5)


class Overwriting(nn.Module):
    """Writes in place to what BatchNorm1d has read."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        h = x * 1.0
        y: Tensor = self.bn(h)
        h.mul_(100)
        return y


def test_moments_survive_a_network_that_overwrites_its_activations() -> None:
    x = torch.randn(4, 3)
    nets = (nn.BatchNorm1d(3), Overwriting())
    adaptations = [AdaptiveModel(net, "adabn").predict([Request(x)])[0].adaptation for net in nets]
    assert adaptations[0] == adaptations[1] > 0


def test_drift_is_finite_where_squares_leave_the_range_of_float32() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    answer = AdaptiveModel(network, "bn").predict([Request(1e18 * torch.randn(2, 3, 4, 4))])[0]
    assert 10 < answer.drift <= FARTHEST
    assert 1e30 < answer.adaptation < float("inf")


def test_networks_that_keep_computed_tensors_are_copied() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    network = nn.Sequential(conv, nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 6, 6)
    network.kept = network(x)
    assert not network.kept.is_leaf
    assert torch.allclose(AdaptiveModel(network, "source")(x), network(x).detach(), atol=1e-5)
