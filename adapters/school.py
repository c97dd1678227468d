"""Lessons of streams that learn: from answered requests to what their streams remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapters.affines import Affines
from adapters.composite import whole
from adapters.correct import finite
from adapters.errors import InputError
from adapters.memory import Key, Memory, State
from adapters.plan import Layouts
from adapters.roles import AnyLearner, Lesson, Start
from adapters.sites import Sites
from adapters.teaching import Taught
from adapters.together import Together, groups


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
        self._descending = Together(network, sites, affines, layout_of, prepare, dtype)

    def learn(self, lessons: Mapping[Key, Lesson], memories: Mapping[Key, Memory]) -> dict[Key, Memory]:
        """What streams remember after their lessons, see `adapters.AdaptiveModel.learn`."""
        learned: dict[Key, Memory] = {}
        for group in groups({key: lesson for key, lesson in lessons.items() if key in memories}):
            learned |= (self._together(group, memories) if len(group) > 1 else None) or self._each(group, memories)
        return learned

    def _together(self, lessons: Mapping[Key, Lesson], memories: Mapping[Key, Memory]) -> dict[Key, Memory] | None:
        states = {key: self._state(key, lesson, memories[key]) for key, lesson in lessons.items()}
        after = self._descending.descend(lessons, states)
        if after is None:
            return None
        return {key: _replaced(key, memories[key], after[key], lesson.after) for key, lesson in lessons.items()}

    def _each(self, lessons: Mapping[Key, Lesson], memories: Mapping[Key, Memory]) -> dict[Key, Memory]:
        learned = {}
        for key, lesson in lessons.items():
            strategy, layout = whole(key.strategy), self._layout_of(key.adapter)
            network = Taught(
                self._network, self._sites, self._affines, strategy.adapter, layout, self._prepare, self._dtype
            )
            after, row = _learner(key).learn(self._state(key, lesson, memories[key]), lesson, network)
            if bool(row.isfinite().all()) and finite([after]):
                learned[key] = _replaced(key, memories[key], after, row)
        return learned

    def _state(self, key: Key, lesson: Lesson, memory: Memory) -> Any:
        """What the stream's learner remembers."""
        known = memory.parts[0] if memory.parts else ()
        row = self._layout_of(key.adapter).row
        start = Start(self._affines.size, row, lesson.images[:1], lesson.logits.shape[-1])
        return known or _learner(key).init(start)


def _learner(key: Key) -> AnyLearner:
    learner = whole(key.strategy).learner
    if learner is None:
        raise InputError("a lesson of a strategy without a learner: pass on what `run` gave")
    return learner


def _replaced(key: Key, memory: Memory, state: State, row: Tensor) -> Memory:
    """What the stream remembers after its lesson."""
    return Memory(row, memory.steps, (state, *(memory.parts[1:] or ((),) * len(whole(key.strategy).correctors))))
