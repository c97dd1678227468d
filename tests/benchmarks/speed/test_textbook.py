"""The textbook versions against their formulas in double precision, and against the numbers of the authors' code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.textbook import TextbookAlphaBN, TextbookUnMixTNS, replaced, trailing_layers
from tests.nets import Tiny, images, randomized, seeded

with np.load(Path(__file__).parent.parent.parent / "golden" / "layers.npz") as archive:
    GOLDEN = {key: torch.from_numpy(archive[key]) for key in archive.files}

SIZES = (1, 4)


def layer(channels: int = 6) -> nn.BatchNorm2d:
    return randomized(nn.BatchNorm2d(channels)).eval()


def double(found: Tensor | None) -> Tensor:
    assert found is not None
    return found.detach().double()


def normalized(x: Tensor, mean: Tensor, var: Tensor, own: nn.BatchNorm2d) -> Tensor:
    """With statistics per channel, or per image and channel."""
    mean, var = (t.reshape(-1, x.shape[1], 1, 1) for t in (mean, var))
    out = (x - mean) / (var + own.eps).sqrt()
    return out * double(own.weight)[:, None, None] + double(own.bias)[:, None, None]


@pytest.mark.parametrize("n", SIZES)
def test_alpha_bn_is_its_formula(n: int) -> None:
    own, x = layer(), images(n)[:, :2].repeat(1, 3, 1, 1)
    exact = x.double()
    mean = 0.7 * double(own.running_mean) + 0.3 * exact.mean((0, 2, 3))
    var = 0.7 * double(own.running_var) + 0.3 * exact.var((0, 2, 3), correction=1)
    adapting = TextbookAlphaBN(own, share=0.3)
    for _ in range(2):  # nothing is remembered
        torch.testing.assert_close(adapting(x).double(), normalized(exact, mean, var, own), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", SIZES)
def test_unmix_tns_is_its_formula_and_its_state_moves(n: int) -> None:
    own, x = layer(), images(n)[:, :2].repeat(1, 3, 1, 1)
    adapting, exact, k = TextbookUnMixTNS(own, components=5), x.double(), 5
    means, variances = adapting.means.double(), adapting.vars.double()
    for _ in range(3):
        seen, spread = exact.mean((2, 3)), exact.var((2, 3), correction=0)
        expected = []
        moved, widened = torch.zeros_like(means), torch.zeros_like(variances)
        for m, v in zip(seen, spread, strict=True):
            cosine = torch.stack([m @ means[i] / (m.norm() * means[i].norm()) for i in range(k)])
            p = (cosine / 0.07).softmax(0)[:, None]
            mu, s = (1 - p) * means + p * m, (1 - p) * variances + p * v
            expected.append((mu.mean(0), s.mean(0) + mu.square().mean(0) - mu.mean(0).square()))
            moved += p * (m - means) / n
            widened += p * (v - variances) / n
        mean, var = (torch.stack(parts) for parts in zip(*expected, strict=True))
        torch.testing.assert_close(adapting(x).double(), normalized(exact, mean, var, own), rtol=1e-4, atol=1e-4)
        rate = 1 - 0.9 ** (n / 64)
        means, variances = means + rate * moved, variances + rate * widened
        torch.testing.assert_close(adapting.means.double(), means, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(adapting.vars.double(), variances, rtol=1e-5, atol=1e-5)


def authors(n: int) -> nn.BatchNorm2d:
    own = nn.BatchNorm2d(8).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(own, name).data.copy_(GOLDEN[f"B{n}__{name}"])
    return own


@pytest.mark.parametrize("n", SIZES)
def test_textbook_strategies_equal_the_authors_code(n: int) -> None:
    alpha, unmix = TextbookAlphaBN(authors(n), share=0.1), TextbookUnMixTNS(authors(n))
    prefix = f"B{n}__unmix_K16_mcorr__"
    unmix.means.copy_(GOLDEN[f"{prefix}init_means"])
    unmix.vars.copy_(GOLDEN[f"{prefix}init_vars"])
    for batch in range(5):
        x = GOLDEN[f"B{n}__x{batch}"]
        torch.testing.assert_close(alpha(x), GOLDEN[f"B{n}__alpha0.1__out{batch}"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(unmix(x), GOLDEN[f"{prefix}out{batch}"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(unmix.means, GOLDEN[f"{prefix}means{batch}"], rtol=1e-5, atol=1e-5)


def test_components_start_around_the_trained_statistics() -> None:
    own = layer(2000)
    adapting = TextbookUnMixTNS(own, components=4)
    z = (adapting.means - double(own.running_mean)) / double(own.running_var).sqrt()
    assert float(z.square().mean()) == pytest.approx(0.5 * 4 / 3, rel=0.1)
    torch.testing.assert_close(adapting.vars.double(), 0.5 * double(own.running_var).expand(4, -1))


def test_every_layer_of_a_copy_is_replaced() -> None:
    network = seeded(Tiny).train()
    copy = replaced(network, TextbookAlphaBN)
    assert isinstance(network.bn, nn.BatchNorm2d)
    assert isinstance(copy.bn, TextbookAlphaBN)
    # The one that finds the statistics of the batch has to stay in train mode, and nothing else may be.
    assert [name for name, module in copy.named_modules() if module.training] == ["bn", "bn.rest", "bn.helper"]
    assert network.training


def test_an_activation_inside_a_layer_is_kept() -> None:
    class Fused(nn.BatchNorm2d):
        def __init__(self) -> None:
            super().__init__(6)
            self.act = nn.ReLU()

    assert isinstance(trailing_layers(layer()), nn.Identity)
    own, x = randomized(Fused()).eval(), images(3)[:, :2].repeat(1, 3, 1, 1)
    for make in (TextbookAlphaBN, TextbookUnMixTNS):
        assert make(own)(x).detach().min() == 0.0
