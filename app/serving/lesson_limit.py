"""What a lesson may take: a request that could never be learned from is refused before anything is done for it."""

from __future__ import annotations

import torch

from adapters import Strategy
from adapters.probes.lesson_memory import LessonMemory
from app.errors import TooLargeError
from app.resources.machine import usable_bytes
from app.resources.memory import parts_of
from app.settings import Settings


class LessonLimit:
    """The bounds on what learners work with; to be told when the model is warm, and its lessons are measured."""

    def __init__(self, memory: LessonMemory, settings: Settings, device: torch.device) -> None:
        self._memory, self.shared = memory, parts_of(settings).lessons
        self.most = settings.max_lesson_bytes or usable_bytes(device) // 2

    def begin(self) -> None:
        """The model is warm: lessons of several streams share a forward as far as their part of the budget allows."""
        self._memory.limit(self.shared)

    def check(self, strategy: Strategy, images: int) -> None:
        """Whether the lesson from a request of so many images is within bounds; none is, where it is not learned from.

        Raises:
            TooLargeError: it is not; the message says what it takes, and how many images would do.
        """
        needed = self._memory.bytes_of(strategy, images)
        if needed <= self.most or not images:
            return
        fitting, learned = self.most // self._memory.per_image, self._memory.images_of(strategy, images)
        location, words = "images", f"send at most {fitting} images in one request that is to be learned from"
        if self._memory.images_of(strategy, 1) > fitting:
            location, words = "params", f"learn from at most {fitting} images at a time (rotta: its capacity)"
        raise TooLargeError(
            f"learning from {learned} images at once takes {needed} bytes of memory, and it may take {self.most}",
            hint=f"{words}; or send update=false, or raise RENORM_MAX_LESSON_BYTES",
            location=location,
        )
