"""Explain what the next answer of a stream leans on and why, from what it remembers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from adapters.explanation import Averages, ChangeAlarm, CorrectorActivity, Explanation, Leaning
from adapters.naming import part_name
from adapters.normalization.linear import as_linear
from adapters.sites import Sites
from adapters.state.evidence import published
from adapters.state.memory import Layout, Memory, StateKey

KEPT = 0.5
"""Share of the images that averages could stand for below which a layer has dropped most older ones."""
LEAST_KEPT = 2.1
"""Requests that averages stand for at least, about: large requests leave a larger share than KEPT."""
FEWEST_IMAGES = 16
"""Images of a stream before which there is no alarm, nor before its third request."""
ALARM_LAYERS, ALARM_LAYERS_OF_ONE = 0.1, 0.45
"""Share of the layers from which the alarm is raised for large requests, and what is added to it, divided by the mean
size of the requests: single images differ so much that without a change of domain up to 0.44 of the bundled network's
layers drop images (95 % of the time; 0.06 with 4 images, none with 16), and at a change to strong noise about 0.6 (with
4 images 0.3 to 0.6, with 16 from 0.19)."""


def explain(key: StateKey, memory: Memory | None, sites: Sites, layout: Layout) -> Explanation:
    """Return the explanation of a stream with this memory, None for a new one; weights are means over the sites."""
    memory = memory or Memory(layout.row, steps=0)
    adapter, row = key.adapter, layout.complete(memory.row)
    evidence = published(layout.split_head(row)) if adapter.reads_evidence else None
    states = zip(sites, layout.split(row), strict=True)
    leanings = [part for site, state in states if (part := adapter.leaning(site, state, evidence)) is not None]
    counts = [part.averages for part in leanings if part.averages is not None]
    leaning = _mean(leanings, counts) if leanings else None
    if leaning is not None and (linear := as_linear(adapter)) is not None:
        # A memory that began with the trained statistics still holds a share of them.
        start = leaning.memory * linear.remaining(memory.steps, memory.images)
        leaning = leaning._replace(memory=leaning.memory - start, trained=leaning.trained + start)
    # Without spreads, as in networks that cannot take leaves, mixtures are never found.
    can_tell = adapter.reads_spread and any(math.isfinite(site.spread) for site in sites)
    is_mixture = bool(evidence.mixture) if can_tell and evidence is not None else None
    corrections = tuple(_corrections(key, memory))
    return Explanation(leaning, evidence, corrections, memory.images, _alarm(counts, memory), is_mixture)


def _mean(leanings: Sequence[Leaning], counts: Sequence[Averages]) -> Leaning:
    weights = zip(*(part[:3] for part in leanings), strict=True)
    request, memory, trained = (sum(parts) / len(leanings) for parts in weights)
    if not counts:
        return Leaning(request, memory, trained)
    images = sum(part.images for part in counts) / len(counts)
    independent = sum(part.independent for part in counts) / len(counts)
    return Leaning(request, memory, trained, Averages(images, independent, counts[0].horizon))


def _alarm(counts: Sequence[Averages], memory: Memory) -> ChangeAlarm | None:
    """Return the state of the alarm: averages that let go stand for fewer images than the stream has given them."""
    if not memory.steps or not memory.images:
        return None
    size, alarmed = memory.images / memory.steps, list[bool]()
    for part in counts:
        if part.horizon is not None:
            limit = min(memory.images, part.horizon)
            bound = max(KEPT * limit, min(LEAST_KEPT * size, 0.9 * limit))
            alarmed.append(memory.images >= max(FEWEST_IMAGES, 3 * size) and part.images < bound)
    layers = sum(alarmed) / max(len(alarmed), 1)
    return ChangeAlarm(layers, layers >= ALARM_LAYERS + ALARM_LAYERS_OF_ONE / size) if alarmed else None


def _corrections(key: StateKey, memory: Memory) -> Iterator[CorrectorActivity]:
    offset = 0 if key.strategy.learner is None else 1
    for corrector, state in zip(key.strategy.correctors, memory.parts[offset:], strict=False):
        # A plain tuple is that of a new stream, which is not the state of the class.
        is_active = None if type(state) is tuple else corrector.is_active(state)
        if is_active is not None:
            yield CorrectorActivity(part_name(corrector), is_active, corrector.condition)
