"""Source: the frozen network, unchanged.

>>> Source().weights(images=4)
Weights(own=0.0, remembered=0.0, trained=1.0, momentum=0.0, unbiased=False)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adapters.normalization.linear import Linear, Weights


@dataclass(frozen=True)
class Source(Linear):
    """No adaptation: every image is normalized with the statistics of the training data.

    Equal to ``model.eval()``, and the baseline of every comparison. Remembers nothing.
    """

    remembers: ClassVar[bool] = False

    def weights(self, images: int) -> Weights:
        """Return all weight on the trained statistics."""
        del images
        return Weights(own=0.0, remembered=0.0, trained=1.0, momentum=0.0)
