"""What a forward gave, request by request, and the states to commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Lesson
from adapters.engine.corrections import Corrections
from adapters.engine.drift import FirstSite, Reading
from adapters.engine.outliers import beyond, weights
from adapters.engine.plan import Plan
from adapters.engine.request import Answer, Outcome, Request
from adapters.finite import all_finite, finite_rows
from adapters.state.memory import Memory, StateKey

NO_STATE = torch.empty(0)


class ForwardOutput(NamedTuple):
    """What a forward leaves: the network's output, what its first site showed, and its blocks' states."""

    logits: Tensor
    first: FirstSite
    rows: list[Tensor]
    features: Tensor  # [n, d], what goes into the last layer; [n, 0] where no corrector asks for it
    distances: Tensor  # [n, 3], see `adapters.engine.outliers`
    adapt_s: float | None = None  # see `adapters.engine.request.Outcome`


def held_back(plan: Plan, ran: ForwardOutput, bound: float) -> ForwardOutput:
    """What is learned of a forward: nothing of requests with images beyond the bound, and less of those on the way."""
    plan.hold_back(beyond(ran.distances, bound))
    return ran._replace(rows=plan.faded(ran.rows, weights(ran.distances, bound)))


def to_outcome(plan: Plan, ran: ForwardOutput, reading: Reading, memories: Mapping[StateKey, Memory]) -> Outcome:
    """Answers in the order of the requests, and the new states if all of it is finite.

    The ``reading`` lies as the plan orders the requests.
    """
    corrections = Corrections(memories) if plan.composites else None
    rows = [(group.keys, states) for group, states in zip(plan.groups, ran.rows, strict=True) if group.keys]
    sound = {key: finite for keys, states in rows for key, finite in zip(keys, finite_rows(states), strict=True)}
    sound_images = finite_rows(ran.logits)
    steps = {turn.key: memories[turn.key].steps if turn.key in memories else 0 for turn in plan.requests}
    far = dict(zip(plan.order, zip(reading.drift, reading.adaptation, strict=True), strict=True))
    answers = []
    for index, (turn, images) in enumerate(zip(plan.requests, plan.rows, strict=True)):
        logits, finite = ran.logits[images], sound.get(turn.key, True) and all(sound_images[images])
        if corrections is not None and finite and turn.corrected:
            logits = corrections.correct(turn, ran.features[images], logits)
            finite = all(finite_rows(logits)) and all_finite(*chain(*corrections.of(turn.key)))
        updated = turn.update and finite
        steps[turn.key] += updated
        answers.append(
            Answer(logits, *far[index], steps[turn.key], updated, finite, plan.outliers[index], plan.weights[index])
        )
    if not all(answer.finite for answer in answers):
        return Outcome(answers, {}, ran.adapt_s)
    kept = {key: row for keys, states in rows for key, row in zip(keys, states.unbind(0), strict=True)}
    learned = {turn.key: kept.get(turn.key, NO_STATE) for turn in plan.requests if turn.update}
    if corrections is None:
        after = {key: Memory(row, steps[key], (), reading.evidence[key]) for key, row in learned.items()}
        return Outcome(answers, after, ran.adapt_s)
    after = {key: Memory(row, steps[key], corrections.of(key), reading.evidence[key]) for key, row in learned.items()}
    return Outcome(answers, after, ran.adapt_s, _lessons(plan, ran, after))


def _lessons(plan: Plan, ran: ForwardOutput, after: Mapping[StateKey, Memory]) -> dict[StateKey, Lesson]:
    """What streams have yet to learn from."""
    lessons = {}
    for turn, images in zip(plan.requests, plan.rows, strict=True):
        if turn.learns:
            # A copy: what is given may be written over by the commit.
            before = plan.before(turn.key).clone()
            lessons[turn.key] = Lesson(turn.pixels, ran.logits[images].float(), before, after[turn.key].row)
    return lessons


Forward = Callable[[Sequence[Request], Mapping[StateKey, Memory]], Outcome]


def together_or_one_by_one(
    forward: Forward, requests: Sequence[Request], keys: Sequence[StateKey], memories: Mapping[StateKey, Memory]
) -> Outcome:
    """In one forward, unless a request among them, whose stream's each is, must not reach those behind it.

    That is one that is not finite; and one that teaches nothing or less than usual, where later requests of its stream
    met what it would have taught.
    """
    outcome, met = forward(requests, memories), Counter(keys)
    pairs = zip(outcome.answers, requests, keys, strict=True)
    harmful = (not one.finite or (one.weight < 1 and turn.update and met[key] > 1) for one, turn, key in pairs)
    return _one_by_one(forward, requests, memories) if len(requests) > 1 and any(harmful) else outcome


def _one_by_one(forward: Forward, requests: Sequence[Request], memories: Mapping[StateKey, Memory]) -> Outcome:
    """The slow way."""
    current, answers = dict(memories), []
    committed: dict[StateKey, Memory] = {}
    lessons: dict[StateKey, Lesson] = {}
    for request in requests:
        outcome = forward([request], current)
        current.update(outcome.memories)
        committed.update(outcome.memories)
        lessons.update(outcome.lessons)
        answers += outcome.answers
    return Outcome(answers, committed, lessons=lessons)
