"""The memory limit of a lesson: a request too large to learn from is refused before any work on it."""

from __future__ import annotations

import torch

from adapters import Composite
from adapters.probes.lesson_memory import LessonMemory
from app.errors import IMAGES, TooLargeError
from app.resources.machine import usable_bytes
from app.resources.memory import parts_of
from app.settings import Settings


class LessonLimit:
    """Limits on the memory of lessons; `begin` applies them once the model is warm and its lessons are measured."""

    def __init__(self, memory: LessonMemory, settings: Settings, device: torch.device) -> None:
        self._memory, self.shared = memory, parts_of(settings).lessons
        self.max_bytes = settings.max_lesson_bytes or usable_bytes(device) // 2

    def begin(self) -> None:
        """Let lessons of several streams share a forward as far as their part of the memory budget allows."""
        self._memory.limit(self.shared)

    def check(self, strategy: Composite, images: int) -> None:
        """Check that the lesson from ``images`` images fits in memory; 0 images if the request is not learned from.

        Raises:
            TooLargeError: it does not; the message says what it needs, and how many images would fit.
        """
        needed = self._memory.bytes_of(strategy, images)
        if needed <= self.max_bytes or not images:
            return
        fitting, learned = self.max_bytes // self._memory.per_image, self._memory.images_of(strategy, images)
        location, advice = IMAGES, f"send at most {fitting} images in a request to be learned from"
        if self._memory.images_of(strategy, 1) > fitting:
            location, advice = "params", f"learn from at most {fitting} images at a time (rotta: capacity)"
        raise TooLargeError(
            f"learning from {learned} images at once needs {needed} bytes of memory, and the limit is {self.max_bytes}",
            hint=f"{advice}; or send update=false, or raise RENORM_MAX_LESSON_BYTES",
            location=location,
        )
