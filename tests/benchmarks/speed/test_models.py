from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.speed.models import MODELS, folded, trained_alike
from benchmarks.speed.textbook import BATCHNORM
from tests.nets import PreActivation, Tiny, Twice, images, seeded


def layers(network: nn.Module) -> int:
    return sum(isinstance(module, BATCHNORM) for module in network.modules())


@pytest.mark.parametrize("name", ["tiny", "resnet20"])
def test_folding_leaves_no_batchnorm_and_the_same_answers(name: str) -> None:
    network = seeded(Tiny).eval() if name == "tiny" else MODELS[name].build()
    x, there = images(3, size=32), layers(network)
    without = folded(network, x[:1])
    with torch.no_grad():
        torch.testing.assert_close(without(x), network(x), rtol=1e-4, atol=1e-4)
    assert layers(without) == 0
    assert layers(network) == there > 0


@pytest.mark.parametrize("build", [PreActivation, Twice])
def test_unfoldable_networks_are_refused(build: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="could not be folded"):
        folded(seeded(build).eval(), images(1))


def test_a_network_without_batchnorm_before_a_convolution_is_refused() -> None:
    with pytest.raises(ValueError, match="could not be folded"):
        folded(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)).eval(), images(1))


def test_random_weights_get_the_statistics_of_random_images() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, momentum=0.3)) for _ in "ab")
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # Activations that the statistics of a new layer would not bring back.
            out: torch.Tensor = self.body(1e6 * x)
            return out

    network = trained_alike(Deep(), 16)
    assert not any(module.training for module in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())
    assert [module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)] == [0.3, 0.3]
    answer = network(torch.randn(8, 3, 16, 16))
    assert 0.3 < float(answer.std()) < 3.0


def test_models_of_the_targets_are_in_the_table() -> None:
    assert list(MODELS) == ["resnet20", "resnet50", "efficientnet_b0"]
    assert MODELS["resnet50"].batches == (1, 16)
