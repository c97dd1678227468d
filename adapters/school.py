"""Lessons of streams that learn: from answered requests to what their streams remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from adapters.affines import Affines
from adapters.composite import whole
from adapters.correct import finite
from adapters.memory import Key, Memory
from adapters.plan import Layouts
from adapters.roles import Lesson, Start
from adapters.sites import Sites
from adapters.teaching import Taught


class School:
    """Runs the lessons of one network's streams; keeps nothing.

    Args:
        network: in ``eval()``, its own parameters without gradients.
        prepare: from images as requests hold them to the network's input, of type ``dtype``.
    """

    def __init__(
        self,
        network: nn.Module,
        sites: Sites,
        affines: Affines,
        layout_of: Layouts,
        prepare: Callable[[Tensor], Tensor],
        dtype: torch.dtype | None,
    ) -> None:
        self._network, self._sites, self._affines, self._layout_of = network, sites, affines, layout_of
        self._prepare, self._dtype = prepare, dtype

    def learn(self, lessons: Mapping[Key, Lesson], memories: Mapping[Key, Memory]) -> dict[Key, Memory]:
        """What streams remember after their lessons, see `adapters.AdaptiveModel.learn`."""
        learned = {key: self._learn(key, lesson, memories[key]) for key, lesson in lessons.items() if key in memories}
        return {key: memory for key, memory in learned.items() if memory is not None}

    def _learn(self, key: Key, lesson: Lesson, memory: Memory) -> Memory | None:
        strategy, layout = whole(key.strategy), self._layout_of(key.adapter)
        if strategy.learner is None:
            return None
        known = memory.parts[0] if memory.parts else ()
        start = Start(self._affines.size, layout.row, lesson.images[:1], lesson.logits.shape[-1])
        state = known or strategy.learner.init(start)
        network = Taught(
            self._network, self._sites, self._affines, strategy.adapter, layout, self._prepare, self._dtype
        )
        after, row = strategy.learner.learn(state, lesson, network)
        if not (bool(row.isfinite().all()) and finite([after])):
            return None
        others = memory.parts[1:] or ((),) * len(strategy.correctors)
        return Memory(row, memory.steps, (after, *others))
