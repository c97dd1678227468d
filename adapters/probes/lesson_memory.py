"""Measure the memory of lessons: the tensors that a forward saves for the backward pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.base import Lesson
from adapters.composite import Composite
from adapters.engine.differentiable import DifferentiableNetwork, LearningContext
from adapters.normalization.bn import BN
from adapters.probes.reach import two_images
from adapters.state.memory import StateKey

UNBOUNDED = 2**62


class LessonMemory:
    """The memory that lessons of one network take, once measured, and the limit for lessons learned jointly.

    ``per_image`` is in bytes, 0 before `measure`; ``together`` is how many images streams may learn from in one
    forward. A stream's own lesson is never divided.
    """

    def __init__(self) -> None:
        self.per_image, self.together = 0, UNBOUNDED

    def measure(self, context: LearningContext, images: Tensor) -> None:
        """Measure what an image like those of ``images`` ``[n, ...]`` takes.

        It is half as much again as what is kept for the way back, because gradients are made on it before what they are
        made of is gone.
        """
        self.per_image = 3 * saved_bytes(context, images) // 2

    def limit(self, limit_bytes: int) -> None:
        """Let lessons of several streams take ``limit_bytes`` together."""
        self.together = max(1, limit_bytes // self.per_image) if self.per_image else UNBOUNDED

    def images_of(self, strategy: Composite, images: int) -> int:
        """Return the most images of a forward in a lesson from a request of so many; 0 where nothing learns."""
        return 0 if strategy.learner is None else strategy.learner.lesson_images(images)

    def bytes_of(self, strategy: Composite, images: int) -> int:
        """Return the bytes that a lesson from a request of so many images takes, as far as measured."""
        return self.per_image * self.images_of(strategy, images)

    def peak_bytes(self, lessons: Mapping[StateKey, Lesson]) -> int:
        """Return the bytes of the largest forward among lessons that are learned in one turn."""
        image_counts = [self.images_of(key.strategy, len(lesson.images)) for key, lesson in lessons.items()]
        return self.per_image * max(max(image_counts, default=0), min(sum(image_counts), self.together))


def saved_bytes(context: LearningContext, images: Tensor) -> int:
    """Return the bytes saved for the backward pass, per image like ``images`` ``[n, ...]``; 0 where no gradient passes.

    Counted in one forward of two images normalized by their own statistics, as tent and its kin do: every storage that
    autograd keeps, once, but for the network's own.
    """
    network_storages = {tensor.untyped_storage().data_ptr() for tensor in context.network.state_dict().values()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in network_storages:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    adapter = BN()
    with torch.inference_mode(False), torch.enable_grad():
        affine = torch.zeros(context.affine_layout.size, device=context.sites[0].mean.device, requires_grad=True)
        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                network, row = DifferentiableNetwork(context, adapter), context.layout_of(adapter).row
                logits, _ = network(two_images(images), row, affine)
        except Exception:  # why no gradient passes is for `adapters.probes.reach` to say
            return 0
        # Storages stay where they are for as long as the graph does: no address was counted twice.
        return sum(saved.values()) // 2 if logits.requires_grad else 0
