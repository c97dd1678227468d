"""The methods as research code writes them: a module in the place of every BatchNorm, state shared by all images.

References for `python -m benchmarks.speed`. Written from the formulas, for a network in ``eval()``; not for serving.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCHNORM = nn.modules.batchnorm._BatchNorm


def replaced(network: nn.Module, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy in ``eval()`` whose BatchNorm layers are what ``make`` gives for them.

    ``make`` is called last, so that what it puts into train mode stays there.
    """
    network = copy.deepcopy(network).eval()
    for name, layer in list(network.named_modules()):
        if isinstance(layer, BATCHNORM):
            parent, _, child = name.rpartition(".")
            network.get_submodule(parent).register_module(child, make(layer))
    return network


def trailing_layers(layer: nn.Module) -> nn.Module:
    """Return the layers that a BatchNorm layer applies after normalizing: timm's hold an activation."""
    parts = [getattr(layer, name) for name in ("drop", "act") if isinstance(getattr(layer, name, None), nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()


class TextbookAlphaBN(nn.Module):
    """Alpha-BN: trained statistics mixed with those of the batch, which a second BatchNorm in train mode finds.

    With momentum 1 its running statistics are those of the last batch, the variance unbiased. ``share`` is the weight
    of the batch. Input and output ``[n, C, h, w]``.

    Paper: You, Li and Zhao 2021, "Test-time batch statistics calibration for covariate shift".
    """

    def __init__(self, layer: nn.Module, share: float = 0.1) -> None:
        super().__init__()
        self.layer, self.share, self.rest = layer, share, trailing_layers(layer)
        mean = _tensor(layer, "running_mean")
        self.helper = nn.BatchNorm2d(len(mean), momentum=1.0, affine=False).to(mean.device).train()

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, learn nothing that stays."""
        self.helper(x)
        mean = (1 - self.share) * _tensor(self.layer, "running_mean") + self.share * _tensor(
            self.helper, "running_mean"
        )
        var = (1 - self.share) * _tensor(self.layer, "running_var") + self.share * _tensor(self.helper, "running_var")
        weight, bias = _tensor(self.layer, "weight"), _tensor(self.layer, "bias")
        out: Tensor = self.rest(F.batch_norm(x, mean, var, weight, bias, False, 0.0, _eps(self.layer)))
        return out


class TextbookUnMixTNS(nn.Module):
    """UnMix-TNS with arrays ``[n, K, C]``: each image is normalized with its own blend of K components.

    The components start around the trained statistics, are drawn from the global generator, and move with every batch.
    Input and output ``[n, C, h, w]``.

    Paper: Tomar et al. 2024, "Un-Mixing Test-Time Normalization Statistics" (ICLR 2024), section 3.
    """

    means: Tensor  # [K, C]
    vars: Tensor  # [K, C]

    def __init__(self, layer: nn.Module, components: int = 16, momentum: float = 0.1, reference: int = 64) -> None:
        super().__init__()
        self.layer, self.momentum, self.reference, self.rest = layer, momentum, reference, trailing_layers(layer)
        mean, var, k = _tensor(layer, "running_mean"), _tensor(layer, "running_var"), components
        noise = torch.randn(k, len(mean)).to(mean)
        self.register_buffer("means", mean + (0.5 * k / (k - 1) * var).sqrt() * noise)
        self.register_buffer("vars", (0.5 * var).expand(k, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, then move the components."""
        var, mean = torch.var_mean(x, (2, 3), correction=0)  # [n, C]
        p = (F.cosine_similarity(mean[:, None], self.means[None], dim=2) / 0.07).softmax(1)[:, :, None]  # [n, K, 1]
        means = (1 - p) * self.means + p * mean[:, None]  # [n, K, C]
        variances = (1 - p) * self.vars + p * var[:, None]
        mean_of_components = means.mean(1)
        spread = variances.mean(1) + means.square().mean(1) - mean_of_components.square()
        rate = 1 - (1 - self.momentum) ** (len(x) / self.reference)
        self.means += rate * (p * (mean[:, None] - self.means)).mean(0)
        self.vars += rate * (p * (var[:, None] - self.vars)).mean(0)
        out = (x - mean_of_components[:, :, None, None]) / (spread[:, :, None, None] + _eps(self.layer)).sqrt()
        out = out * _tensor(self.layer, "weight")[:, None, None] + _tensor(self.layer, "bias")[:, None, None]
        answer: Tensor = self.rest(out)
        return answer


def _tensor(layer: nn.Module, name: str) -> Tensor:
    tensor = getattr(layer, name)
    assert isinstance(tensor, Tensor), f"the textbook versions need BatchNorm layers with {name}"  # noqa: S101
    return tensor


def _eps(layer: nn.Module) -> float:
    return float(layer.eps)  # type: ignore[arg-type]
