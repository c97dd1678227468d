"""Weights from a file into a network, without ever running code from the file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from app.errors import ModelError
from app.models.checkpoint import Candidate, Target, flattened
from app.models.checkpoint_files import read_checkpoint
from app.models.file_kinds import EXPORT
from app.models.inert import Placeholder

log = logging.getLogger("renorm")

_SHOWN = 3


def load_weights(network: nn.Module, path: Path, key: str | None = None) -> str:
    """Load the network's tensors from ``path`` into it, and say which were taken: a line for people.

    Taken are safetensors, and what `torch.save` wrote, told by content; it is read with ``weights_only``. Wherever in
    the file a mapping holds every tensor of the network, under whatever prefix, it is found. Of averaged weights and
    raw ones the averaged are taken; ``key`` chooses otherwise. What is left out is logged.

    Raises:
        ModelError: no such file, another kind of file, pickled code, tensors that do not fit, or several that do.
    """
    loaded, target = read_checkpoint(path), Target(network)
    candidates = target.candidates(loaded)
    if not any(map(target.fits, candidates)):
        candidates += target.candidates(flattened(loaded))
    if not any(target.matches(one.tensors) for one in candidates) and not (candidates and _plain(loaded)):
        raise _not_tensors(loaded, path)
    chosen = _chosen(target, candidates, path, key)
    try:
        # What may be missing after the check is num_batches_tracked, which nothing here reads.
        network.load_state_dict(
            {target.names[name]: value for name, value in chosen.tensors.items() if name in target.names}, strict=False
        )
    except RuntimeError as error:
        raise ModelError(f"the weights {path} do not fit the network: {error}") from error
    return _report(target, chosen, candidates, path)


def _chosen(target: Target, candidates: Sequence[Candidate], path: Path, key: str | None) -> Candidate:
    named = [one for one in candidates if key is None or one.is_named(key)]
    if not named:
        places = ", ".join(one.title for one in candidates)
        raise ModelError(f"the weights {path} have no tensors under '{key}'", hint=f"--weights-key may be: {places}")
    fitting = _distinct(target, [one for one in named if target.fits(one)])
    if not fitting:
        raise _misfit(target, named, path)
    averaged = [one for one in fitting if one.is_averaged]
    # Training code that keeps an average evaluates with it.
    chosen = averaged if key is None and len(averaged) == 1 else fitting
    if len(chosen) > 1:
        places = ", ".join(one.title for one in chosen)
        raise ModelError(
            f"the weights {path} hold {len(chosen)} different sets of tensors that fit the network: {places}",
            hint=f"choose one with --weights-key, such as --weights-key {chosen[0].label or '.'}",
        )
    return chosen[0]


def _distinct(target: Target, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Without those that hold the same numbers as one before them."""
    distinct: list[Candidate] = []
    for candidate in candidates:
        if not any(_are_equal(target, candidate, other) for other in distinct):
            distinct.append(candidate)
    return distinct


def _are_equal(target: Target, one: Candidate, other: Candidate) -> bool:
    needed = [name for name in target.expected if name in one.tensors and name in other.tensors]
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in needed)


def _misfit(target: Target, candidates: Sequence[Candidate], path: Path) -> ModelError:
    nearest = max(candidates, key=lambda one: (target.matches(one.tensors), len(one.tensors)))
    tensors = nearest.tensors
    location = f", read at '{nearest.label}'," if nearest.label else ""
    problems = {
        "missing": target.missing(tensors),
        "unexpected": target.unexpected(tensors),
        "of another shape": target.misshaped(tensors),
    }
    told = "; ".join(f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in problems.items() if keys)
    names = f"found {_first(tensors)}, expected {_first(target.expected)}"
    return ModelError(
        f"the weights {path}{location} do not fit the network: {told}; {names}",
        hint="give the weights of exactly this architecture and number of classes",
    )


def _report(target: Target, chosen: Candidate, candidates: Sequence[Candidate], path: Path) -> str:
    """Where the weights were, and what else was there; logged as a warning where a person may have meant that."""
    half = len(target.expected) / 2
    others = [one for one in candidates if one.label != chosen.label and target.matches(one.tensors) >= half]
    kind = "averaged weights" if chosen.is_averaged else "weights"
    line = f"{path.name}: the {kind}" + (f" at '{chosen.label}'" if chosen.label else "")
    doubts = []
    if others:
        titles = (f"{one.title}{'' if target.fits(one) else ' (incomplete)'}" for one in others)
        doubts.append(f"{', '.join(titles)} left unread; --weights-key chooses")
    left = Counter(key.partition(".")[0] for key in (*chosen.outside, *target.unexpected(chosen.tensors)))
    if left:
        doubts.append(f"left out, as the network has none: {_first(f'{top} ({n})' for top, n in left.items())}")
    line = "; ".join([line, *doubts])
    log.log(logging.WARNING if doubts else logging.INFO, "weights %s", line)
    return line


def _plain(loaded: object) -> bool:
    return not any(isinstance(entry, Placeholder) for entry in (loaded.values() if isinstance(loaded, dict) else ()))


def _not_tensors(loaded: object, path: Path) -> ModelError:
    entries = list(loaded.values()) if isinstance(loaded, dict) else [loaded]
    objects = [entry.full_name for entry in entries if isinstance(entry, Placeholder)]
    if objects:
        message = f"the weights {path} hold pickled code, which is not run: whole objects of {_first(objects)}"
        return ModelError(message, hint=EXPORT)
    told = f"an object of type {type(loaded).__name__}" if not isinstance(loaded, dict) else "nothing"
    if isinstance(loaded, dict) and loaded:
        told = f"the keys {_first(map(str, loaded))}"
    return ModelError(
        f"the weights {path} are not a state dict, a mapping from names to tensors: found {told}", hint=EXPORT
    )


def _first(keys: Iterable[str]) -> str:
    shown = list(keys)
    return ", ".join(shown[:_SHOWN]) + (" ..." if len(shown) > _SHOWN else "")
