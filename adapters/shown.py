"""What a first forward shows of a network, on which the size of learners' and correctors' states depends."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from adapters.composite import Composite
from adapters.correct import fresh
from adapters.memory import bytes_of
from adapters.roles import Start


class Shown(NamedTuple):
    """How many features and classes the network has, and an image as requests hold it."""

    features: int
    classes: int
    image: Tensor  # [1, ...]

    def bytes_of(self, parts: Composite, affine: int, row: Tensor) -> int:
        """How many bytes the learner and the correctors of a strategy remember of a stream."""
        states = [] if parts.learner is None else [parts.learner.init(Start(affine, row, self.image, self.classes))]
        for corrector in parts.correctors:
            features = self.features if getattr(corrector, "features", False) else 0
            states.append(fresh(corrector, features, self.classes, row.device))
        return bytes_of(tuple(states))
