"""A small VGG with BatchNorm: an architecture without shortcuts, beside the bundled ResNet-20."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = (32, 32), (64, 64), (128, 128)
"""The channels of every convolution, by stage."""


class Vgg(nn.Module):
    """Six 3x3 convolutions in three stages, each followed by BatchNorm and ReLU: 288,746 parameters for 10 classes.

    After Simonyan and Zisserman 2015: maximum pooling halves the map between two stages. The mean over the last map
    replaces their three fully connected layers. ``forward`` maps normalized images ``[n, 3, h, w]`` to logits
    ``[n, classes]``.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 3
        for stage in STAGES:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for channels in stage:
                layers += [nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
                channels_in = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels_in, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of normalized images ``[n, 3, h, w]``."""
        logits: Tensor = self.head(torch.mean(self.features(x), dim=(2, 3)))
        return logits
