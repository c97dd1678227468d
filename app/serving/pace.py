"""The duration of forwards by their size, measured at run time: larger ones take less time per image."""

from __future__ import annotations

from collections.abc import Iterable

NEWEST_WEIGHT = 0.2
"""Weight of the newest forward in a running mean."""


class Pace:
    """Seconds per image of forwards of about the same size, and the share of lessons."""

    def __init__(self) -> None:
        # By the bit length of the number of images: 1, 2 to 3, 4 to 7, ...
        self._per_image: dict[int, float] = {}
        self._forward_s = self._lesson_s = 0.0

    def add_forward(self, images: int, seconds: float) -> None:
        """Record the duration of a forward of ``images`` images."""
        size, per_image = images.bit_length(), seconds / images
        mean = self._per_image.get(size, per_image)
        self._per_image[size] = mean + NEWEST_WEIGHT * (per_image - mean)
        self._forward_s += NEWEST_WEIGHT * (seconds - self._forward_s)
        self._lesson_s -= NEWEST_WEIGHT * self._lesson_s

    def add_lesson(self, seconds: float) -> None:
        """Record the duration of the lessons after a forward."""
        self._lesson_s += NEWEST_WEIGHT * seconds

    def forward_s(self, images: int) -> float:
        """Return the expected duration of a forward of ``images`` images; 0 before the first."""
        if not self._per_image:
            return 0.0
        size = min(self._per_image, key=lambda bits: (abs(bits - images.bit_length()), -bits))
        return images * self._per_image[size]

    def wait_s(self, images: int, per_forward: int) -> float:
        """Return the expected duration of ``images`` images in forwards of ``per_forward``, lessons included."""
        full, remainder = divmod(images, per_forward)
        forwards_s = full * self.forward_s(per_forward) + self.forward_s(remainder)
        return forwards_s * (1 + (self._lesson_s / self._forward_s if self._forward_s else 0.0))


def images_through(images: int, queues: Iterable[int]) -> int:
    """Return the images processed until ``images`` of one stream are, where it takes turns with other ``queues``."""
    return images + sum(min(images, queue) for queue in queues)
