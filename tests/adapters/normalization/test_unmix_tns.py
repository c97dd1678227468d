"""Gradients through UnMix-TNS: a learner takes the assignment to components as constant, as the authors' code does."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Request, strategy
from adapters.normalization.unmix_tns import BLENDS_LIMIT, UnMixTNS
from tests.nets import PreActivation, images, seeded

TEMPERATURE = 0.07


class Literal(nn.Module):
    """One layer as published, image by image and component by component, in double precision."""

    def __init__(self, layer: nn.BatchNorm2d, start: tuple[Tensor, Tensor], detached: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.detached = layer.weight, layer.bias, layer.eps, detached
        self.means, self.vars = (part.double() for part in start)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self._normalized(image) for image in x])

    def _normalized(self, image: Tensor) -> Tensor:
        own_mean, own_var = image.mean((1, 2)), image.var((1, 2), correction=0)
        seen = own_mean.detach() if self.detached else own_mean
        cosines = [seen @ m / (seen.norm() * m.norm()) for m in self.means]
        shares = (torch.stack(cosines) / TEMPERATURE).softmax(0)
        means = torch.stack([(1 - p) * m + p * own_mean for p, m in zip(shares, self.means, strict=True)])
        variances = torch.stack([(1 - p) * v + p * own_var for p, v in zip(shares, self.vars, strict=True)])
        mean = means.mean(0)
        var = variances.mean(0) + means.square().mean(0) - mean.square()
        scaled = (image - mean[:, None, None]) / (var + self.eps).sqrt()[:, None, None]
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


def _gradient_by_hand(network: PreActivation, shown: Tensor, *, detached: bool) -> Tensor:
    """The gradient of the mean entropy: of all weights, then of all biases."""
    theirs, adapter, layers = copy.deepcopy(network).double(), UnMixTNS(), []
    for number, site in enumerate(AdaptiveModel(network, adapter).sites):
        begun = adapter.init(site)
        layers.append(Literal(theirs.norms[number], (begun.means, begun.vars), detached))  # type: ignore[arg-type]
        theirs.norms[number] = layers[-1]
    logits = theirs(shown.double())
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers]
    return torch.cat(torch.autograd.grad(entropy, parameters))


def _gradients(network: PreActivation, requests: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of streams that learn together, from one step of descent with a learning rate of one."""
    model = AdaptiveModel(network, strategy("unmix_tns+tent", {"tent.lr": 1.0, "tent.optimizer": "sgd"}))
    outcome = model.run([Request(shown, str(i)) for i, shown in enumerate(requests)], {})
    learned = {key.stream: memory for key, memory in model.learn(outcome.lessons, outcome.memories).items()}
    return [-learned[str(i)].parts[0].affine for i in range(len(requests))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("blends_limit", [BLENDS_LIMIT, 0], ids=["from blends", "in closed form"])
@pytest.mark.parametrize("sizes", [(5,), (3, 4)], ids=["one lesson", "a joint lesson"])
def test_the_gradient_of_a_lesson_does_not_pass_through_the_assignment(
    sizes: tuple[int, ...], blends_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.normalization.unmix_tns.BLENDS_LIMIT", blends_limit)
    network = seeded(PreActivation).eval()
    requests = [images(n, seed, size=6) for seed, n in enumerate(sizes)]
    for shown, found in zip(requests, _gradients(network, requests), strict=True):
        authors, through = (_gradient_by_hand(network, shown, detached=detached) for detached in (True, False))
        scale = float(authors.abs().max())
        torch.testing.assert_close(found.double(), authors, rtol=1e-3, atol=1e-4 * scale)
        assert float((through - authors).abs().max()) > 0.01 * scale, "the assignment makes no difference here"
