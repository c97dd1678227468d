"""Turn the output of a forward into answers, request by request, and states to commit."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Lesson
from adapters.engine.corrections import Corrections
from adapters.engine.drift import FirstSite, Reading
from adapters.engine.grouped_steps import StreamSteps
from adapters.engine.outliers import are_outliers, step_weights
from adapters.engine.plan import Plan
from adapters.engine.request import Answer, Outcome
from adapters.finite import all_finite, finite_rows
from adapters.state.memory import Memories, Memory, StateKey

NO_STATE = torch.empty(0)


class ForwardOutput(NamedTuple):
    """The output of a forward: logits, moments at the first site, and the new states of its groups."""

    logits: Tensor
    first: FirstSite
    rows: list[Tensor]
    features: Tensor  # [n, d], what goes into the last layer; [n, 0] where no corrector asks for it
    distances: Tensor  # [n, 3], see `adapters.engine.outliers`
    adapt_s: float | None = None  # see `adapters.engine.request.Outcome`


def withhold_outliers(plan: Plan, output: ForwardOutput, bound: float) -> ForwardOutput:
    """Limit learning from a forward: nothing from images beyond the bound, less from those close to it."""
    plan.withhold(are_outliers(output.distances, bound))
    return output._replace(rows=plan.fade(output.rows, step_weights(output.distances, bound)))


def add_evidence(plan: Plan, output: ForwardOutput) -> ForwardOutput:
    """Add the answers to the evidence of streams whose adapter reads it."""
    rows = list(output.rows)
    for position, group in enumerate(plan.groups):
        if isinstance(group.steps, StreamSteps):
            rows[position] = group.steps.add_answers(rows[position], output.logits[group.images])
    return output._replace(rows=rows)


def to_outcome(plan: Plan, output: ForwardOutput, reading: Reading, memories: Memories) -> Outcome:
    """Return answers in the order of the requests, and the new states if all of it is finite.

    The ``reading`` lies as the plan orders the requests.
    """
    corrections = Corrections(memories) if plan.has_composites else None
    rows = [(group.keys, states) for group, states in zip(plan.groups, output.rows, strict=True) if group.keys]
    is_finite = {key: finite for keys, states in rows for key, finite in zip(keys, finite_rows(states), strict=True)}
    finite_images = finite_rows(output.logits)
    steps = {request.key: memories[request.key].steps if request.key in memories else 0 for request in plan.requests}
    readings = dict(zip(plan.order, zip(reading.drift, reading.adaptation, strict=True), strict=True))
    answers = []
    for index, (request, images) in enumerate(zip(plan.requests, plan.rows, strict=True)):
        logits, finite = output.logits[images], is_finite.get(request.key, True) and all(finite_images[images])
        if corrections is not None and finite and request.has_correctors:
            logits = corrections.correct(request, output.features[images], logits)
            finite = all(finite_rows(logits)) and all_finite(*chain(*corrections.of(request.key)))
        updated = request.update and finite
        steps[request.key] += updated
        shares = plan.outliers[index], plan.weights[index]
        answers.append(Answer(logits, *readings[index], steps[request.key], updated, finite, *shares))
    if not all(answer.finite for answer in answers):
        return Outcome(answers, {}, output.adapt_s)
    rows_by_key = {key: row for keys, states in rows for key, row in zip(keys, states.unbind(0), strict=True)}
    new_rows = {request.key: rows_by_key.get(request.key, NO_STATE) for request in plan.requests if request.update}
    counts = count_images(((request.key, request.images) for request in plan.requests if request.update), memories)
    new_memories = {
        key: Memory(row, steps[key], corrections.of(key) if corrections else (), reading.sums[key], counts[key])
        for key, row in new_rows.items()
    }
    lessons = _lessons(plan, output, new_memories) if corrections else {}
    return Outcome(answers, new_memories, output.adapt_s, lessons)


def _lessons(plan: Plan, output: ForwardOutput, new_memories: Memories) -> dict[StateKey, Lesson]:
    """Return the lessons that streams have yet to learn from."""
    lessons = {}
    for request, images in zip(plan.requests, plan.rows, strict=True):
        if request.learns:
            # A copy, because the commit may overwrite the original.
            old_row = plan.old_row(request.key).clone()
            new_row, logits = new_memories[request.key].row, output.logits[images].float()
            lessons[request.key] = Lesson(request.pixels, logits, old_row, new_row)
    return lessons


def count_images(requests: Iterable[tuple[StateKey, int]], memories: Memories) -> dict[StateKey, int]:
    """Return the images that each stream has learned from after requests of so many."""
    images: dict[StateKey, int] = {}
    for key, count in requests:
        images[key] = count + images.get(key, memories[key].images if key in memories else 0)
    return images
