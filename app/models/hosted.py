"""What every source of models delivers: a network, its classes and how its images are prepared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import nn

from adapters import Baseline

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
CROPS = ("center", "squash", "border")


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to the network's input.

    The image is resized, the centre ``size`` x ``size`` is cut out, pixels are scaled to [0, 1] and normalized by
    ``mean`` and ``std`` per channel (RGB). ``crop`` says how it is resized, in timm's words: with ``center`` its short
    side becomes ``resize``, with ``squash`` both sides do, and with ``border`` its long side does, and the rest is
    filled with ``mean``.

    Raises:
        ValueError: sides with 0 < size <= resize, a known interpolation and crop, finite means and positive deviations
            expected.
    """

    size: int
    resize: int
    interpolation: str  # one of INTERPOLATIONS
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: str = "center"  # one of CROPS

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ValueError(
                f"size {self.size} and resize {self.resize}: the side that is cut out must be positive and at most "
                "the side that is resized to"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation '{self.interpolation}': expected one of {', '.join(INTERPOLATIONS)}")
        if self.crop not in CROPS:
            raise ValueError(f"crop '{self.crop}': expected one of {', '.join(CROPS)}")
        if not (len(self.mean) == len(self.std) == 3):
            raise ValueError(f"mean {self.mean} and std {self.std}: expected three numbers each, for red, green, blue")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std}: expected finite means and positive deviations")

    @property
    def height(self) -> int:
        """Rows of the network's input."""
        return self.size

    @property
    def width(self) -> int:
        """Columns of the network's input."""
        return self.size

    @property
    def channels(self) -> int:
        """Colours of the network's input: 3 for RGB, 1 for grey."""
        return len(self.mean)


@dataclass(frozen=True, eq=False)
class Hosted:
    """A model ready to be served. ``network`` maps ``[n, 3, size, size]`` to logits ``[n, len(classes)]``.

    The engine takes the network over and may change its form; ``parameters`` are counted before.
    """

    name: str
    network: nn.Module
    classes: list[str]
    preprocessing: Preprocessing
    architecture: str
    card: str  # a few sentences or a model card: data, recipe, accuracy, intended use; may be empty
    class_ids: tuple[str, ...] = ()  # WordNet's, one for each class; empty where the labels have none
    baseline: Baseline | None = None  # of drift; None: assumed from the trained statistics
    source: str = ""  # the model as settings name it, where that is not its name
    weights: str = ""  # which were read from a file that a person gave
    notes: tuple[str, ...] = ()  # of the check at start-up: what a person should know
    parameters: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.source or self.name)
        object.__setattr__(self, "parameters", sum(parameter.numel() for parameter in self.network.parameters()))
