"""How much memory lessons work with: what a forward keeps for the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.base import Lesson
from adapters.composite import Strategy, learner_of
from adapters.engine.differentiable import DifferentiableNetwork, LearningContext
from adapters.normalization.bn import BN
from adapters.probes.reach import two_images
from adapters.state.memory import StateKey

UNBOUNDED = 2**62


class LessonMemory:
    """What lessons of one network take, known once it was measured, and how much those that are shared may take.

    ``per_image`` is in bytes, 0 before `measure`; ``together`` is how many images streams may learn from in one
    forward. A stream's own lesson is never divided.
    """

    def __init__(self) -> None:
        self.per_image, self.together = 0, UNBOUNDED

    def measure(self, hosted: LearningContext, images: Tensor) -> None:
        """Find out what an image like those of ``images`` ``[n, ...]`` takes.

        It is half as much again as what is kept for the way back, because gradients are made on it before what they are
        made of is gone.
        """
        self.per_image = 3 * kept_bytes(hosted, images) // 2

    def limit(self, most: int) -> None:
        """Let lessons of several streams take ``most`` bytes together."""
        self.together = max(1, most // self.per_image) if self.per_image else UNBOUNDED

    def images_of(self, strategy: Strategy, images: int) -> int:
        """The most images that a forward of a lesson from a request of so many can have; 0 where nothing learns."""
        learner = learner_of(strategy)
        if learner is None:
            return 0
        count = getattr(learner, "lesson_images", None)
        return images if count is None else int(count(images))

    def bytes_of(self, strategy: Strategy, images: int) -> int:
        """What a lesson from a request of so many images takes, as far as it was measured."""
        return self.per_image * self.images_of(strategy, images)

    def peak_bytes(self, lessons: Mapping[StateKey, Lesson]) -> int:
        """What the largest forward of lessons that are learned in one turn takes."""
        alone = [self.images_of(key.strategy, len(lesson.images)) for key, lesson in lessons.items()]
        return self.per_image * max(max(alone, default=0), min(sum(alone), self.together))


def kept_bytes(hosted: LearningContext, images: Tensor) -> int:
    """Bytes that are kept for the backward pass, per image like those of ``images`` ``[n, ...]``; 0 where none passes.

    Counted in one forward of two images normalized by their own statistics, as tent and its kin do: every storage that
    autograd keeps, once, but for the network's own.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in hosted.network.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    adapter = BN()
    with torch.inference_mode(False), torch.enable_grad():
        affine = torch.zeros(hosted.affine_layout.size, device=hosted.sites[0].mean.device, requires_grad=True)
        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
                logits, _ = DifferentiableNetwork(hosted, adapter)(
                    two_images(images), hosted.layout_of(adapter).row, affine
                )
        except Exception:  # why no gradient passes is for `adapters.probes.reach` to say
            return 0
        # Storages stay where they are for as long as the graph does: no address was counted twice.
        return sum(kept.values()) // 2 if logits.requires_grad else 0


def _as_it_is(tensor: Any) -> Any:
    return tensor
