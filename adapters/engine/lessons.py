"""Lessons of streams that learn: from answered requests to what their streams remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.base import AnyLearner, Lesson, Start
from adapters.composite import as_composite
from adapters.engine.affine import AffineOffsets
from adapters.engine.calling import SwitchesKept
from adapters.engine.differentiable import DifferentiableNetwork, LearningContext
from adapters.engine.forward import AdaptingForward
from adapters.engine.outputs import logits_of
from adapters.engine.plan import Plan, PlannedRequest
from adapters.errors import InputError
from adapters.finite import all_finite
from adapters.learners.descent import Descent, DescentState
from adapters.learners.optimizers import outside_inference_mode
from adapters.state.memory import Memory, State, StateKey


class LessonRunner:
    """Runs the lessons of one network's streams, of at most ``limit()`` images together; keeps nothing."""

    def __init__(self, hosted: LearningContext, limit: Callable[[], int]) -> None:
        self._hosted, self._limit, self._descending = hosted, limit, BatchedDescent(hosted)

    def learn(self, lessons: Mapping[StateKey, Lesson], memories: Mapping[StateKey, Memory]) -> dict[StateKey, Memory]:
        """What streams remember after their lessons, see `adapters.AdaptiveModel.learn`."""
        learned: dict[StateKey, Memory] = {}
        known = {key: lesson for key, lesson in lessons.items() if key in memories}
        for group in groups(known, self._limit()):
            learned |= (self._together(group, memories) if len(group) > 1 else None) or self._each(group, memories)
        return learned

    def _together(
        self, lessons: Mapping[StateKey, Lesson], memories: Mapping[StateKey, Memory]
    ) -> dict[StateKey, Memory] | None:
        states = {key: self._state(key, lesson, memories[key]) for key, lesson in lessons.items()}
        after = self._descending.descend(lessons, states)
        if after is None:
            return None
        return {key: _replaced(key, memories[key], after[key], lesson.after) for key, lesson in lessons.items()}

    def _each(self, lessons: Mapping[StateKey, Lesson], memories: Mapping[StateKey, Memory]) -> dict[StateKey, Memory]:
        learned = {}
        for key, lesson in lessons.items():
            network = DifferentiableNetwork(self._hosted, as_composite(key.strategy).adapter)
            after, row = _learner(key).learn(self._state(key, lesson, memories[key]), lesson, network)
            if all_finite(row, *after):
                learned[key] = _replaced(key, memories[key], after, row)
        return learned

    def _state(self, key: StateKey, lesson: Lesson, memory: Memory) -> Any:
        """What the stream's learner remembers."""
        known = memory.parts[0] if memory.parts else ()
        row = self._hosted.layout_of(key.adapter).row
        start = Start(self._hosted.affine_layout.size, row, lesson.images[:1], lesson.logits.shape[-1])
        return known or _learner(key).init(start)


def _learner(key: StateKey) -> AnyLearner:
    learner = as_composite(key.strategy).learner
    if learner is None:
        raise InputError("a lesson of a strategy without a learner: pass on what `run` gave")
    return learner


def _replaced(key: StateKey, memory: Memory, state: State, row: Tensor) -> Memory:
    """What the stream remembers after its lesson."""
    parts = (state, *(memory.parts[1:] or ((),) * len(as_composite(key.strategy).correctors)))
    return memory._replace(row=row, parts=parts)


class BatchedDescent:
    """Lessons of one network's streams whose learners descend, with images of one form and one number of steps."""

    def __init__(self, hosted: LearningContext) -> None:
        self._hosted = hosted

    def descend(
        self, lessons: Mapping[StateKey, Lesson], states: Mapping[StateKey, DescentState]
    ) -> dict[StateKey, DescentState] | None:
        """The states after the streams' steps, or None where one of them is not finite: then each has to go alone."""
        learners = {key: _descent(key) for key in lessons}
        after = {key: DescentState(*map(outside_inference_mode, state)) for key, state in states.items()}
        with torch.inference_mode(False), torch.no_grad():
            for _ in range(next(iter(learners.values())).steps):
                slopes = self._slopes(lessons, [after[key].affine for key in lessons], learners)
                for (key, learner), slope in zip(learners.items(), slopes.unbind(0), strict=True):
                    stepped = learner.take_step(after[key], slope)
                    if stepped is None:
                        return None
                    after[key] = stepped
        return after

    def _slopes(
        self, lessons: Mapping[StateKey, Lesson], affines: list[Tensor], learners: Mapping[StateKey, Descent]
    ) -> Tensor:
        """The slope of each stream's loss at its parameters, ``[streams, parameters]``."""
        held = {key: Memory(outside_inference_mode(lesson.before), 0) for key, lesson in lessons.items()}
        requests = [PlannedRequest(key, len(lesson.images), True) for key, lesson in lessons.items()]
        plan = Plan(self._hosted.sites, requests, held, self._hosted.layout_of)
        images = [outside_inference_mode(lesson.images) for lesson in lessons.values()]
        device = affines[0].device
        batch = self._hosted.input(torch.cat([images[i] for i in plan.order]))
        order = torch.tensor(plan.order, device=device)
        counts = torch.tensor([requests[i].images for i in plan.order], device=device)
        with torch.enable_grad():
            rows = torch.stack(affines).requires_grad_()
            plan.offsets = AffineOffsets(self._hosted.affine_layout.slices, rows, order.repeat_interleave(counts))
            with SwitchesKept(), AdaptingForward(self._hosted.sites, plan):
                logits = logits_of(self._hosted.network(batch)).float()
            losses = [learner.loss(logits[part]) for learner, part in zip(learners.values(), plan.rows, strict=True)]
            total = torch.stack(losses).sum()
            if not total.requires_grad:
                return torch.zeros_like(rows)
            return torch.autograd.grad(total, rows, materialize_grads=True)[0]


def groups(lessons: Mapping[StateKey, Lesson], most: int = 2**62) -> list[dict[StateKey, Lesson]]:
    """Lessons that can take their steps together, of at most ``most`` images unless one alone has more; those of other
    learners each by themselves.
    """
    alike: dict[object, list[dict[StateKey, Lesson]]] = {}
    for key, lesson in lessons.items():
        learner = as_composite(key.strategy).learner
        together = isinstance(learner, Descent) and type(learner).learn is Descent.learn
        together = together and len(lesson.images) >= _descent(key).least_images
        form = (lesson.images.shape[1:], lesson.images.dtype, _descent(key).steps) if together else key
        parts = alike.setdefault(form, [{}])
        if parts[-1] and sum(len(one.images) for one in parts[-1].values()) + len(lesson.images) > most:
            parts.append({})
        parts[-1][key] = lesson
    return [part for parts in alike.values() for part in parts]


def _descent(key: StateKey) -> Descent:
    learner: Descent = as_composite(key.strategy).learner  # type: ignore[assignment]
    return learner
