"""Run requests in as few forwards as their streams allow."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from adapters.base import Lesson
from adapters.engine.request import Answer, Outcome, Request
from adapters.state.evidence import PERIOD
from adapters.state.memory import Memories, Memory, StateKey

Forward = Callable[[Sequence[Request], Memories], Outcome]


def run_in_waves(
    forward: Forward, requests: Sequence[Request], keys: Sequence[StateKey], memories: Memories
) -> Outcome:
    """Run requests in one forward, or in several after another where one has to know the answers to earlier ones.

    ``keys`` are those of the requests.
    """
    waves = evidence_waves(requests, keys, memories)
    if len(waves) == 1:
        return _run_jointly(forward, requests, keys, memories)
    parts = []
    current = dict(memories)
    for wave in waves:
        parts.append(_run_jointly(forward, [requests[i] for i in wave], [keys[i] for i in wave], current))
        current.update(parts[-1].memories)
    answers = dict(zip((i for wave in waves for i in wave), (a for part in parts for a in part.answers), strict=True))
    return _merge(parts, [answers[index] for index in range(len(requests))])


def evidence_waves(requests: Sequence[Request], keys: Sequence[StateKey], memories: Memories) -> list[list[int]]:
    """Return the indices of requests that can share a forward, forward by forward.

    A stream whose adapter reads evidence reads it anew every PERIOD images, which the next request has to wait for.
    """
    waves: dict[int, list[int]] = defaultdict(list)
    images: dict[StateKey, int] = {}
    for index, (request, key) in enumerate(zip(requests, keys, strict=True)):
        wave = 0
        if key.adapter.reads_evidence:
            start = memories[key].images if key in memories else 0
            count = images.setdefault(key, start)
            wave = count // PERIOD - start // PERIOD
            images[key] += len(request.images) * request.update
        waves[wave].append(index)
    return [waves[wave] for wave in sorted(waves)]


def _run_jointly(
    forward: Forward, requests: Sequence[Request], keys: Sequence[StateKey], memories: Memories
) -> Outcome:
    """Run requests in one forward, or one by one where a request must not reach later ones of its stream.

    That is a request that is not finite, or one that is learned from less than usual while later requests of its
    stream met its full step.
    """
    outcome, counts = forward(requests, memories), Counter(keys)
    pairs = zip(outcome.answers, requests, keys, strict=True)
    harmful = (not answer.finite or (answer.weight < 1 and r.update and counts[key] > 1) for answer, r, key in pairs)
    return _run_separately(forward, requests, memories) if len(requests) > 1 and any(harmful) else outcome


def _run_separately(forward: Forward, requests: Sequence[Request], memories: Memories) -> Outcome:
    """Run each request in a forward of its own, which is slow."""
    current, parts = dict(memories), []
    for request in requests:
        parts.append(forward([request], current))
        current.update(parts[-1].memories)
    return _merge(parts, [answer for part in parts for answer in part.answers])


def _merge(parts: Sequence[Outcome], answers: list[Answer]) -> Outcome:
    """Return the outcome of successive forwards."""
    memories: dict[StateKey, Memory] = {}
    lessons: dict[StateKey, Lesson] = {}
    for part in parts:
        memories.update(part.memories)
        lessons.update(part.lessons)
    return Outcome(answers, memories, lessons=lessons)
