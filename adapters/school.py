"""Lessons of streams that learn: from answered requests to what their streams remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapters.composite import whole
from adapters.correct import finite
from adapters.errors import InputError
from adapters.lesson_memory import LessonMemory
from adapters.roles import AnyLearner, Lesson, Start
from adapters.state.memory import Key, Memory, State
from adapters.teaching import Hosted, Taught
from adapters.together import Together, groups


class School:
    """Runs the lessons of one network's streams; keeps nothing."""

    def __init__(self, hosted: Hosted, memory: LessonMemory) -> None:
        self._hosted, self._memory, self._descending = hosted, memory, Together(hosted)

    def learn(self, lessons: Mapping[Key, Lesson], memories: Mapping[Key, Memory]) -> dict[Key, Memory]:
        """What streams remember after their lessons, see `adapters.AdaptiveModel.learn`."""
        learned: dict[Key, Memory] = {}
        known = {key: lesson for key, lesson in lessons.items() if key in memories}
        for group in groups(known, self._memory.together):
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
            network = Taught(self._hosted, whole(key.strategy).adapter)
            after, row = _learner(key).learn(self._state(key, lesson, memories[key]), lesson, network)
            if bool(row.isfinite().all()) and finite([after]):
                learned[key] = _replaced(key, memories[key], after, row)
        return learned

    def _state(self, key: Key, lesson: Lesson, memory: Memory) -> Any:
        """What the stream's learner remembers."""
        known = memory.parts[0] if memory.parts else ()
        row = self._hosted.layout_of(key.adapter).row
        start = Start(self._hosted.affines.size, row, lesson.images[:1], lesson.logits.shape[-1])
        return known or _learner(key).init(start)


def _learner(key: Key) -> AnyLearner:
    learner = whole(key.strategy).learner
    if learner is None:
        raise InputError("a lesson of a strategy without a learner: pass on what `run` gave")
    return learner


def _replaced(key: Key, memory: Memory, state: State, row: Tensor) -> Memory:
    """What the stream remembers after its lesson."""
    parts = (state, *(memory.parts[1:] or ((),) * len(whole(key.strategy).correctors)))
    return memory._replace(row=row, parts=parts)
