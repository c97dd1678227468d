"""Lessons of streams that learn: from answered requests to the new states of their streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.base import AnyLearner, Lesson, Start
from adapters.engine.affine import AffineOffsets
from adapters.engine.calling import GlobalStateGuard
from adapters.engine.differentiable import DifferentiableNetwork, LearningContext
from adapters.engine.forward import AdaptingForward
from adapters.engine.outputs import logits_of
from adapters.engine.plan import Plan, PlannedRequest
from adapters.errors import InputError
from adapters.finite import all_finite
from adapters.learners.descent import Descent, DescentState
from adapters.learners.optimizers import outside_inference_mode
from adapters.state.memory import Memories, Memory, State, StateKey


class LessonRunner:
    """Runs the lessons of one network's streams, of at most ``limit()`` images together; keeps nothing."""

    def __init__(self, context: LearningContext, limit: Callable[[], int]) -> None:
        self._context, self._limit, self._batched = context, limit, BatchedDescent(context)

    def learn(self, lessons: Mapping[StateKey, Lesson], memories: Memories) -> dict[StateKey, Memory]:
        """Return the new states of streams after their lessons, see `adapters.AdaptiveModel.learn`."""
        learned: dict[StateKey, Memory] = {}
        available = {key: lesson for key, lesson in lessons.items() if key in memories}
        for group in group_lessons(available, self._limit()):
            joint = self._learn_jointly(group, memories) if len(group) > 1 else None
            learned |= joint or self._learn_separately(group, memories)
        return learned

    def _learn_jointly(self, lessons: Mapping[StateKey, Lesson], memories: Memories) -> dict[StateKey, Memory] | None:
        states = {key: self._state(key, lesson, memories[key]) for key, lesson in lessons.items()}
        new_states = self._batched.descend(lessons, states)
        if new_states is None:
            return None
        return {
            key: self._to_memory(key, memories[key], new_states[key], lesson.after) for key, lesson in lessons.items()
        }

    def _learn_separately(self, lessons: Mapping[StateKey, Lesson], memories: Memories) -> dict[StateKey, Memory]:
        learned = {}
        for key, lesson in lessons.items():
            network = DifferentiableNetwork(self._context, key.strategy.adapter)
            new_states, row = _learner(key).learn(self._state(key, lesson, memories[key]), lesson, network)
            if all_finite(row, *new_states):
                learned[key] = self._to_memory(key, memories[key], new_states, row)
        return learned

    def _to_memory(self, key: StateKey, memory: Memory, state: State, row: Tensor) -> Memory:
        """Return the stream's state after its lesson; evidence is that of the answers, which a lesson has none of."""
        head = self._context.layout_of(key.adapter).head_size
        row = torch.cat([memory.row[:head], row[head:]]) if head else row
        parts = (state, *(memory.parts[1:] or ((),) * len(key.strategy.correctors)))
        return memory._replace(row=row, parts=parts)

    def _state(self, key: StateKey, lesson: Lesson, memory: Memory) -> Any:
        """Return the state of the stream's learner."""
        state = memory.parts[0] if memory.parts else ()
        row = self._context.layout_of(key.adapter).row
        start = Start(self._context.affine_layout.size, row, lesson.images[:1], lesson.logits.shape[-1])
        return state or _learner(key).init(start)


def _learner(key: StateKey) -> AnyLearner:
    learner = key.strategy.learner
    if learner is None:
        raise InputError("the strategy of a lesson has no learner: pass the lessons that `run` returned")
    return learner


class BatchedDescent:
    """Lessons of one network's streams whose learners descend, with images of one form and one number of steps."""

    def __init__(self, context: LearningContext) -> None:
        self._context = context

    def descend(
        self, lessons: Mapping[StateKey, Lesson], states: Mapping[StateKey, DescentState]
    ) -> dict[StateKey, DescentState] | None:
        """Return the states after the streams' steps, or None where one is not finite: then each learns separately."""
        learners = {key: _descent(key) for key in lessons}
        new_states = {key: DescentState(*map(outside_inference_mode, state)) for key, state in states.items()}
        with torch.inference_mode(False), torch.no_grad():
            for _ in range(next(iter(learners.values())).steps):
                slopes = self._slopes(lessons, [new_states[key].affine for key in lessons], learners)
                for (key, learner), slope in zip(learners.items(), slopes.unbind(0), strict=True):
                    stepped = learner.take_step(new_states[key], slope)
                    if stepped is None:
                        return None
                    new_states[key] = stepped
        return new_states

    def _slopes(
        self, lessons: Mapping[StateKey, Lesson], affines: list[Tensor], learners: Mapping[StateKey, Descent]
    ) -> Tensor:
        """Return the gradient of each stream's loss at its parameters, ``[streams, parameters]``."""
        memories = {key: Memory(outside_inference_mode(lesson.before), 0) for key, lesson in lessons.items()}
        requests = [PlannedRequest(key, len(lesson.images), True) for key, lesson in lessons.items()]
        plan = Plan(self._context.sites, requests, memories, self._context.layout_of)
        images = [outside_inference_mode(lesson.images) for lesson in lessons.values()]
        device = affines[0].device
        batch = self._context.input(torch.cat([images[i] for i in plan.order]))
        order = torch.tensor(plan.order, device=device)
        counts = torch.tensor([requests[i].images for i in plan.order], device=device)
        with torch.enable_grad():
            rows = torch.stack(affines).requires_grad_()
            plan.offsets = AffineOffsets(self._context.affine_layout.slices, rows, order.repeat_interleave(counts))
            with GlobalStateGuard(), AdaptingForward(self._context.sites, plan):
                logits = logits_of(self._context.network(batch)).float()
            losses = [learner.loss(logits[part]) for learner, part in zip(learners.values(), plan.rows, strict=True)]
            total = torch.stack(losses).sum()
            if not total.requires_grad:
                return torch.zeros_like(rows)
            return torch.autograd.grad(total, rows, materialize_grads=True)[0]


def group_lessons(lessons: Mapping[StateKey, Lesson], limit: int = 2**62) -> list[dict[StateKey, Lesson]]:
    """Group lessons that can be learned jointly, of at most ``limit`` images unless a single lesson has more; those of
    other learners stay separate.
    """
    batches: dict[object, list[dict[StateKey, Lesson]]] = {}
    for key, lesson in lessons.items():
        learner = key.strategy.learner
        is_joint = isinstance(learner, Descent) and type(learner).learn is Descent.learn
        is_joint = is_joint and len(lesson.images) >= _descent(key).least_images
        form = (lesson.images.shape[1:], lesson.images.dtype, _descent(key).steps) if is_joint else key
        parts = batches.setdefault(form, [{}])
        if parts[-1] and sum(len(member.images) for member in parts[-1].values()) + len(lesson.images) > limit:
            parts.append({})
        parts[-1][key] = lesson
    return [part for parts in batches.values() for part in parts]


def _descent(key: StateKey) -> Descent:
    learner: Descent = key.strategy.learner  # type: ignore[assignment]
    return learner
