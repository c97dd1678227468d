"""Run requests in as few forwards as their streams allow."""

from __future__ import annotations

from collections import Counter
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
    if len(_next_wave(requests, keys, memories)) == len(requests):
        return _run_jointly(forward, requests, keys, memories)
    current, parts = _of(keys, memories), list[Outcome]()
    answers: dict[int, Answer] = {}
    waiting = list(range(len(requests)))
    while waiting:
        # Anew for each: a request that is not learned from, such as one with outliers, adds no images after all.
        wave = _next_wave([requests[i] for i in waiting], [keys[i] for i in waiting], current)
        indices = [waiting[place] for place in wave]
        parts.append(_run_jointly(forward, [requests[i] for i in indices], [keys[i] for i in indices], current))
        current.update(parts[-1].memories)
        answers.update(zip(indices, parts[-1].answers, strict=True))
        done = set(indices)
        waiting = [index for index in waiting if index not in done]
    return _merge(parts, [answers[index] for index in range(len(requests))])


def _next_wave(requests: Sequence[Request], keys: Sequence[StateKey], memories: Memories) -> list[int]:
    """Return the indices of requests that can share the next forward.

    A stream whose adapter reads evidence reads it anew every PERIOD images, which the next request has to wait for.
    """
    wave = []
    images: dict[StateKey, int] = {}
    for index, (request, key) in enumerate(zip(requests, keys, strict=True)):
        if key.adapter.reads_evidence:
            start = memories[key].images if key in memories else 0
            count = images.setdefault(key, start)
            if count // PERIOD > start // PERIOD:
                continue
            images[key] += len(request.images) * request.update
        wave.append(index)
    return wave


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
    return _run_separately(forward, requests, keys, memories) if len(requests) > 1 and any(harmful) else outcome


def _run_separately(
    forward: Forward, requests: Sequence[Request], keys: Sequence[StateKey], memories: Memories
) -> Outcome:
    """Run each request in a forward of its own, which is slow."""
    current, parts = _of(keys, memories), list[Outcome]()
    for request in requests:
        parts.append(forward([request], current))
        current.update(parts[-1].memories)
    return _merge(parts, [answer for part in parts for answer in part.answers])


def _of(keys: Sequence[StateKey], memories: Memories) -> dict[StateKey, Memory]:
    """Return the memories of these streams alone: a model may hold those of thousands."""
    return {key: memories[key] for key in dict.fromkeys(keys) if key in memories}


def _merge(parts: Sequence[Outcome], answers: list[Answer]) -> Outcome:
    """Return the outcome of successive forwards."""
    memories: dict[StateKey, Memory] = {}
    lessons: dict[StateKey, Lesson] = {}
    for part in parts:
        memories.update(part.memories)
        lessons.update(part.lessons)
    return Outcome(answers, memories, lessons=lessons)
