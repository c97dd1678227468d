"""What every source of models delivers: a network, its classes and how its images are prepared."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input.

    The short side is resized to ``resize``, the centre ``size`` x ``size`` is cut out, pixels are scaled to [0, 1] and
    normalized by ``mean`` and ``std`` per channel (RGB).
    """

    size: int
    resize: int
    interpolation: str  # "bilinear", "bicubic", "nearest" or "lanczos"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Hosted:
    """A model ready to be served. ``network`` maps ``[n, 3, size, size]`` to logits ``[n, len(classes)]``."""

    name: str
    network: nn.Module
    classes: list[str]
    preprocessing: Preprocessing
    architecture: str
    card: str  # a few sentences or a model card: data, recipe, accuracy, intended use; may be empty
