"""Domains: images that were changed in the same way, with their labels; and in which order the field shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[np.int64]

CLEAN = "clean"
"""The domain of the images without corruption."""

SEVERITIES = (1, 2, 3, 4, 5)

PUBLISHED = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The corruptions in the order in which papers show them (Hendrycks and Dietterich 2019)."""


class Images(Protocol):
    """Where a domain's images come from; nothing is read before it is asked for."""

    @property
    def labels(self) -> Labels:
        """``[N]``."""

    def take(self, indices: NDArray[np.int64]) -> Tensor | list[bytes]:
        """The images of these indices in their order, as `app.types.Call` takes them."""


@dataclass(frozen=True, eq=False)
class Domain:
    """Images that were changed in the same way. ``severity`` is None where there is one only, or where none is told."""

    name: str
    severity: int | None
    images: Images

    @property
    def title(self) -> str:
        """How people are told of it: ``fog``, or ``fog 3`` where there are severities."""
        return self.name if self.severity is None else f"{self.name} {self.severity}"

    @property
    def labels(self) -> Labels:
        """The class of each image, ``[N]`` int64.

        Raises:
            DataError: images are missing that the folder promises.
        """
        return self.images.labels

    def take(self, indices: NDArray[np.int64]) -> Tensor | list[bytes]:
        """The images of these indices in their order: uint8 ``[n, H, W, 3]``, or files."""
        return self.images.take(indices)


def published(names: Sequence[str]) -> list[str]:
    """The names in the order of the papers, unknown ones after them by the alphabet, clean images last."""
    place = {name: number for number, name in enumerate(PUBLISHED)}
    return sorted(names, key=lambda name: (name == CLEAN, place.get(name, len(PUBLISHED)), name))
