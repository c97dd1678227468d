"""The states of all streams as plain types and tensors, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from adapters.base import AnyAdapter
from adapters.errors import StateError
from adapters.memory import Key, Memory
from adapters.plan import Layouts
from adapters.registry import name_of
from adapters.sites import Sites

FORMAT = 3


def exported(memories: Mapping[Key, Memory], sites: Sites) -> dict[str, Any]:
    """All streams: safe for ``torch.save`` and ``torch.load(weights_only=True)``."""
    streams = [
        {
            "stream": key.stream,
            "strategy": name_of(key.adapter),
            "params": asdict(key.adapter),  # type: ignore[call-overload]
            "row": memory.row.clone(),
            "steps": memory.steps,
        }
        for key, memory in memories.items()
    ]
    return {"format": FORMAT, "sites": _signature(sites), "streams": streams}


def restored(
    state: Mapping[str, Any],
    sites: Sites,
    layout_of: Layouts,
    named: Callable[[str, Mapping[str, Any]], AnyAdapter],
) -> dict[Key, Memory]:
    """The streams in an exported state.

    Raises:
        StateError: exported from another network or in another format.
    """
    if state.get("format") != FORMAT or not {"sites", "streams"} <= state.keys():
        raise StateError(f"expected a state of format {FORMAT}, got {state.get('format')!r}: export it again")
    _meet(state, sites)
    memories = {}
    for entry in state["streams"]:
        adapter = named(entry["strategy"], entry["params"])
        row = entry["row"].to(sites[0].mean, copy=True)
        layout_of(adapter).complete(row)
        if not row.isfinite().all():
            raise StateError(f"the state of stream {entry['stream']!r} holds values that are not finite")
        memories[Key(entry["stream"], adapter)] = Memory(row, entry["steps"])
    return memories


def _meet(state: Mapping[str, Any], sites: Sites) -> None:
    """Compare the sites, and learn of those that the exporting model had met while running."""
    ours, theirs = _signature(sites), [tuple(site) for site in state["sites"]]
    shared = min(len(ours), len(theirs))
    # Only later calls of a layer, which are met while running, may be known on one side alone.
    if ours[:shared] != theirs[:shared] or not all("#" in name for name, _ in ours[shared:] + theirs[shared:]):
        raise StateError("the state was exported from a network with other BatchNorm layers: restore it there")
    for name, _ in theirs[shared:]:
        layer, call = name.split("#")
        sites.position(layer, int(call))


def _signature(sites: Sites) -> list[tuple[str, int]]:
    return [(site.name, site.channels) for site in sites]
