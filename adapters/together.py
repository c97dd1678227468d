"""Gradient steps of many streams in one forward: they share no parameters, so each has its own slope in the sum."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.affines import Learned
from adapters.answers import logits_of
from adapters.calling import SwitchesKept
from adapters.composite import whole
from adapters.forward import Pass
from adapters.learners.descent import Descended, Descent
from adapters.learners.optimizers import ordinary
from adapters.plan import Plan, Turn
from adapters.roles import Lesson
from adapters.state.memory import Key, Memory
from adapters.teaching import Hosted


class Together:
    """Lessons of one network's streams whose learners descend, with images of one form and one number of steps."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted

    def descend(self, lessons: Mapping[Key, Lesson], states: Mapping[Key, Descended]) -> dict[Key, Descended] | None:
        """The states after the streams' steps, or None where one of them is not finite: then each has to go alone."""
        learners = {key: _learner(key) for key in lessons}
        after = {key: Descended(*map(ordinary, state)) for key, state in states.items()}
        with torch.inference_mode(False), torch.no_grad():
            for _ in range(next(iter(learners.values())).steps):
                slopes = self._slopes(lessons, [after[key].affine for key in lessons], learners)
                for (key, learner), slope in zip(learners.items(), slopes.unbind(0), strict=True):
                    stepped = learner.stepped(after[key], slope)
                    if stepped is None:
                        return None
                    after[key] = stepped
        return after

    def _slopes(self, lessons: Mapping[Key, Lesson], affines: list[Tensor], learners: Mapping[Key, Descent]) -> Tensor:
        """The slope of each stream's loss at its parameters, ``[streams, parameters]``."""
        held = {key: Memory(ordinary(lesson.before), 0) for key, lesson in lessons.items()}
        turns = [Turn(key, len(lesson.images), True) for key, lesson in lessons.items()]
        plan = Plan(self._hosted.sites, turns, held, self._hosted.layout_of)
        images = [ordinary(lesson.images) for lesson in lessons.values()]
        device = affines[0].device
        batch = self._hosted.input(torch.cat([images[i] for i in plan.order]))
        order = torch.tensor(plan.order, device=device)
        counts = torch.tensor([turns[i].images for i in plan.order], device=device)
        with torch.enable_grad():
            rows = torch.stack(affines).requires_grad_()
            plan.learned = Learned(self._hosted.affines.places, rows, order.repeat_interleave(counts))
            with SwitchesKept(), Pass(self._hosted.sites, plan):
                logits = logits_of(self._hosted.network(batch)).float()
            losses = [learner.loss(logits[part]) for learner, part in zip(learners.values(), plan.rows, strict=True)]
            total = torch.stack(losses).sum()
            if not total.requires_grad:
                return torch.zeros_like(rows)
            return torch.autograd.grad(total, rows, materialize_grads=True)[0]


def groups(lessons: Mapping[Key, Lesson], most: int = 2**62) -> list[dict[Key, Lesson]]:
    """Lessons that can take their steps together, of at most ``most`` images unless one alone has more; those of other
    learners each by themselves.
    """
    alike: dict[object, list[dict[Key, Lesson]]] = {}
    for key, lesson in lessons.items():
        learner = whole(key.strategy).learner
        together = isinstance(learner, Descent) and type(learner).learn is Descent.learn
        together = together and len(lesson.images) >= _learner(key).least_images
        form = (lesson.images.shape[1:], lesson.images.dtype, _learner(key).steps) if together else key
        parts = alike.setdefault(form, [{}])
        if parts[-1] and sum(len(one.images) for one in parts[-1].values()) + len(lesson.images) > most:
            parts.append({})
        parts[-1][key] = lesson
    return [part for parts in alike.values() for part in parts]


def _learner(key: Key) -> Descent:
    learner: Descent = whole(key.strategy).learner  # type: ignore[assignment]
    return learner
