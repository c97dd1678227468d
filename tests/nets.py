"""Toy networks: one for every way in which a network may use BatchNorm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapters import strategy
from adapters.composite import Strategy

CLASSES = 5

Net = TypeVar("Net", bound=nn.Module)


def randomized(network: Net, seed: int = 0) -> Net:
    """The network with random statistics and affine in every BatchNorm, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            for positive in (layer.running_var, layer.weight):
                if positive is not None:
                    positive.data.uniform_(0.5, 1.5, generator=generator)
            for centred in (layer.running_mean, layer.bias):
                if centred is not None:
                    centred.data.normal_(0.0, 0.2, generator=generator)
    return network


def seeded(build: Callable[[], Net], seed: int = 0) -> Net:
    """A network with the same random weights and statistics at every call, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomized(build(), seed)


def images(n: int, seed: int = 0, size: int = 16) -> Tensor:
    """Images ``[n, 3, size, size]`` that are not like the training data."""
    return 0.3 + 1.3 * torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def learning_early(name: str, params: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy, where a `core` in it learns from requests of any size."""
    early = {"core.least_images": 1} if "core" in name.split("+") else {}
    return strategy(name, {**early, **(params or {})})


class Tiny(nn.Module):
    """Convolution, BatchNorm2d, ReLU, dropout, pooling, linear: the smallest network of the usual shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, CLASSES)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(F.relu(self.bn(self.conv(x)))).mean((2, 3)))
        return out


class PreActivation(nn.Module):
    """BatchNorm before the convolution, whose input the shortcut reads again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.relu(norm(x), inplace=True))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Dense(nn.Module):
    """Every layer reads the outputs of all before it, so the input of a BatchNorm is read by later ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 * (k + 1)) for k in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(4 * (k + 1), 4, 3, padding=1) for k in range(4))
        self.head = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)), inplace=True)))
        out: Tensor = self.head(torch.cat(features, 1).mean((2, 3)))
        return out


class Twice(nn.Module):
    """One BatchNorm module called twice in a forward, on different activations, and another after it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.bn, self.last, self.head = nn.BatchNorm2d(6), nn.BatchNorm2d(6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(self.bn(self.conv(x)))
        out: Tensor = self.head(self.last(x).mean((2, 3)))
        return out


class Head1d(nn.Module):
    """BatchNorm1d on ``[n, C]`` and on ``[n, C, length]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.along = nn.Conv2d(3, 6, 3), nn.BatchNorm1d(6)
        self.hidden, self.bn, self.head = nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.along(self.conv(x).flatten(2)))
        out: Tensor = self.head(F.relu(self.bn(self.hidden(x.mean(2)))))
        return out


class Volume(nn.Module):
    """BatchNorm3d: each image ``[3, h, w]`` is read as a volume of one channel and depth three."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.bn(self.conv(x[:, None]))).mean((2, 3, 4)))
        return out


class Folding(nn.Module):
    """Folds the channels of its images into the batch before BatchNorm, as video networks fold frames."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(x.reshape(-1, 1, *x.shape[2:])).reshape(x.shape).mean((2, 3))
        return out


class Pair(nn.Module):
    """Answers with a tuple instead of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.bn(x), x


class Explosive(Tiny):
    """Squares what passes above 100: finite images become infinite activations, image by image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.where(x > 100, torch.inf, x))
