"""Domains: images with the same corruption and their labels, and the published order of corruptions."""

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
    """The source of a domain's images, read on demand."""

    @property
    def labels(self) -> Labels:
        """``[N]``."""

    def take(self, indices: NDArray[np.int64]) -> Tensor | list[bytes]:
        """The images of these indices in their order, as `app.types.Call` takes them."""


@dataclass(frozen=True, eq=False)
class Domain:
    """Images with the same corruption. ``severity`` is None where there is only one, or where it is not known."""

    name: str
    severity: int | None
    images: Images

    @property
    def title(self) -> str:
        """The name for people: ``fog``, or ``fog 3`` where there are severities."""
        return self.name if self.severity is None else f"{self.name} {self.severity}"

    @property
    def labels(self) -> Labels:
        """The class of each image, ``[N]`` int64.

        Raises:
            DataError: a class of the folder has no images.
        """
        return self.images.labels

    def take(self, indices: NDArray[np.int64]) -> Tensor | list[bytes]:
        """The images of these indices in their order: uint8 ``[n, H, W, 3]``, or files."""
        return self.images.take(indices)


def sort_published(names: Sequence[str]) -> list[str]:
    """Sort names in the order of the papers, then unknown names by the alphabet, clean images last."""
    place = {name: number for number, name in enumerate(PUBLISHED)}
    return sorted(names, key=lambda name: (name == CLEAN, place.get(name, len(PUBLISHED)), name))
