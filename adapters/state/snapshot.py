"""The states of all streams as plain types and tensors, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from adapters.base import Start
from adapters.composite import Composite, Strategy
from adapters.errors import StateError
from adapters.finite import all_finite
from adapters.naming import name_of, params_of
from adapters.sites import Sites
from adapters.state.memory import Layouts, Memories, Memory, State, StateKey

FORMAT = 6


def export_states(memories: Memories, sites: Sites) -> dict[str, Any]:
    """Return all streams: safe for ``torch.save`` and ``torch.load(weights_only=True)``."""
    streams = [
        {
            "stream": key.stream,
            "strategy": name_of(key.strategy),
            "params": params_of(key.strategy),
            "row": memory.row.clone(),
            "drift_sums": memory.drift_sums.clone(),
            "parts": [[field.clone() for field in part] for part in memory.parts],
            "steps": memory.steps,
            "images": memory.images,
        }
        for key, memory in memories.items()
    ]
    return {"format": FORMAT, "sites": _site_list(sites), "streams": streams}


def restore_states(
    state: Mapping[str, Any],
    sites: Sites,
    layout_of: Layouts,
    to_strategy: Callable[[str, Mapping[str, Any]], Strategy],
) -> dict[StateKey, Memory]:
    """Return the streams in an exported state.

    Raises:
        StateError: exported from another network or in another format.
    """
    if not isinstance(state, Mapping):
        raise StateError(f"expected a mapping, as state_dict() returns it, not {type(state).__name__}")
    if state.get("format") != FORMAT or not {"sites", "streams"} <= state.keys():
        raise StateError(f"expected a state of format {FORMAT}, got {state.get('format')!r}: export it again")
    _match_sites(state, sites)
    memories = {}
    for entry in state["streams"]:
        key = StateKey(entry["stream"], to_strategy(entry["strategy"], entry["params"]))
        row = entry["row"].to(sites[0].mean, copy=True)
        layout_of(key.adapter).complete(row)
        parts = _parts(key.strategy, entry["parts"], row)
        drift_sums = entry["drift_sums"].cpu().float()
        if not (all_finite(row, drift_sums, *chain(*parts))):
            raise StateError(f"the state of stream {entry['stream']!r} holds values that are not finite")
        memories[key] = Memory(row, entry["steps"], parts, drift_sums, entry["images"])
    return memories


def _parts(strategy: Composite, fields: Sequence[Sequence[Tensor]], row: Tensor) -> tuple[State, ...]:
    """Return the states of learner and correctors, as their own types."""
    # With any sizes: only the type of the state is needed.
    smallest = Start(0, row, torch.zeros(1, 1, 1, 1), 1)
    states = [] if strategy.learner is None else [strategy.learner.init(smallest)]
    states += [corrector.init(1, 1) for corrector in strategy.correctors]
    if fields and [len(part) for part in fields if part] != [
        len(state) for state, part in zip(states, fields, strict=False) if part
    ]:
        raise StateError("the state of a learner or corrector has another layout in this version: reset its streams")
    return tuple(
        type(state)(*(_to_device(field, row.device) for field in part)) if part else ()
        for state, part in zip(states, fields, strict=False)
    )


def _to_device(field: Tensor, device: torch.device) -> Tensor:
    # Counters, labels and the like stay on the CPU, wherever the network is.
    return field.to(device, copy=True) if field.dtype == torch.float32 else field.clone()


def _match_sites(state: Mapping[str, Any], sites: Sites) -> None:
    """Compare the sites, and learn of those that the exporting model had met while running."""
    expected, names = _site_list(sites), [tuple(site) for site in state["sites"]]
    shared = min(len(expected), len(names))
    # Only later calls of a layer, which are met while running, may be known on one side alone.
    if expected[:shared] != names[:shared] or not all("#" in name for name, _ in expected[shared:] + names[shared:]):
        raise StateError("the state was exported from a network with other BatchNorm layers: restore it with that one")
    for name, _ in names[shared:]:
        layer, call = name.split("#")
        sites.position(layer, int(call))


def _site_list(sites: Sites) -> list[tuple[str, int]]:
    return [(site.name, site.channels) for site in sites]
