"""The bundled network: a CIFAR ResNet-20 with BatchNorm and parameter-free shortcuts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity shortcut; ``stride`` 2 halves the map and doubles the channels."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.missing = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, channels_in, h, w]`` to ``[n, channels, h/stride, w/stride]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.missing == 0:
            return x
        # Option A of He et al. 2016: subsample and pad new channels with zeros, so a shortcut has no weights.
        half = self.missing // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.missing - half))


class ResNet20(nn.Module):
    """ResNet-20 for 32 px images (He et al. 2016, section 4.2): 19 convolutions, 269,722 parameters.

    ``forward`` maps normalized images ``[n, 3, h, w]`` to logits ``[n, classes]``.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stages = nn.Sequential(*_stage(16, 16, 1), *_stage(16, 32, 2), *_stage(32, 64, 2))
        self.head = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of normalized images ``[n, 3, h, w]``."""
        out = self.stages(F.relu(self.bn(self.stem(x))))
        logits: Tensor = self.head(torch.mean(out, dim=(2, 3)))
        return logits


def _stage(channels_in: int, channels: int, stride: int) -> list[BasicBlock]:
    return [
        BasicBlock(channels_in, channels, stride),
        BasicBlock(channels, channels, 1),
        BasicBlock(channels, channels, 1),
    ]
