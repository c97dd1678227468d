"""How long forwards take, measured while they run: a full one takes less time for each of its images."""

from __future__ import annotations

from collections.abc import Iterable

NEW = 0.2
"""Weight of the newest forward in a mean."""


class Pace:
    """Seconds per image of forwards of about the same size, and what lessons add to them."""

    def __init__(self) -> None:
        # By the number of binary digits of the images: 1, 2 to 3, 4 to 7, ...
        self._per_image: dict[int, float] = {}
        self._forward_s = self._lesson_s = 0.0

    def add_forward(self, images: int, seconds: float) -> None:
        """A forward of so many images took so long."""
        size, per_image = images.bit_length(), seconds / images
        known = self._per_image.get(size, per_image)
        self._per_image[size] = known + NEW * (per_image - known)
        self._forward_s += NEW * (seconds - self._forward_s)
        self._lesson_s -= NEW * self._lesson_s

    def add_lesson(self, seconds: float) -> None:
        """The lessons after a forward took so long."""
        self._lesson_s += NEW * seconds

    def forward_s(self, images: int) -> float:
        """How long a forward of so many images takes; 0 before there was any."""
        if not self._per_image:
            return 0.0
        size = min(self._per_image, key=lambda known: (abs(known - images.bit_length()), -known))
        return images * self._per_image[size]

    def wait_s(self, images: int, most: int) -> float:
        """How long so many images take one after another, in forwards of ``most``, with the lessons between them."""
        full, rest = divmod(images, most)
        forwards_s = full * self.forward_s(most) + self.forward_s(rest)
        return forwards_s * (1 + (self._lesson_s / self._forward_s if self._forward_s else 0.0))


def shared(images: int, others: Iterable[int]) -> int:
    """How many images are through when ``images`` of one stream are, where the streams take turns."""
    return images + sum(min(images, other) for other in others)
