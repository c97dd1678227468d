"""Explain what the next answer of a stream leans on, from what it remembers."""

from __future__ import annotations

from adapters.explanation import Explanation, Leaning
from adapters.sites import Sites
from adapters.state.evidence import published
from adapters.state.memory import Layout, Memory, StateKey


def explain(key: StateKey, memory: Memory, sites: Sites, layout: Layout) -> Explanation:
    """Return the explanation of a stream with this memory; weights are means over the sites that it has states at."""
    adapter, row = key.adapter, layout.complete(memory.row)
    evidence = published(layout.split_head(row)) if adapter.reads_evidence else None
    states = zip(sites, layout.split(row), strict=True)
    leanings = [part for site, state in states if (part := adapter.leaning(site, state, evidence)) is not None]
    means = [sum(weights) / len(leanings) for weights in zip(*leanings, strict=True)]
    offset = 0 if key.strategy.learner is None else 1
    pairs = zip(key.strategy.correctors, memory.parts[offset:], strict=False)
    flags = [flag for corrector, state in pairs if state and (flag := corrector.is_active(state)) is not None]
    return Explanation(Leaning(*means) if leanings else None, evidence, any(flags) if flags else None)
