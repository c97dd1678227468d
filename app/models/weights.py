"""Weights from a file into a network, without ever running code from the file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from app.errors import ModelError
from app.models.checkpoint import Candidate, ExpectedTensors, flattened
from app.models.checkpoint_files import read_checkpoint
from app.models.file_kinds import EXPORT
from app.models.inert import Placeholder

log = logging.getLogger("renorm")

_LISTED = 3


def load_weights(network: nn.Module, path: Path, key: str | None = None) -> str:
    """Load the network's tensors from ``path`` into it, and return a line for messages that names their source.

    Taken are safetensors, and what `torch.save` wrote, told by content; it is read with ``weights_only``. Wherever in
    the file a mapping holds every tensor of the network, under whatever prefix, it is found. Of averaged weights and
    raw ones the averaged are taken; ``key`` chooses otherwise. What is left out is logged.

    Raises:
        ModelError: no such file, another kind of file, pickled code, tensors that do not fit, or several that do.
    """
    loaded, target = read_checkpoint(path), ExpectedTensors(network)
    candidates = target.candidates(loaded)
    if not any(map(target.fits, candidates)):
        candidates += target.candidates(flattened(loaded))
    if not any(target.matches(c.tensors) for c in candidates) and not (candidates and _is_plain(loaded)):
        raise _not_tensors_error(loaded, path)
    chosen = _choose(target, candidates, path, key)
    try:
        # After the check only num_batches_tracked may be missing, which is not used.
        network.load_state_dict(
            {target.names[name]: value for name, value in chosen.tensors.items() if name in target.names}, strict=False
        )
    except RuntimeError as error:
        raise ModelError(f"the weights {path} do not fit the network: {error}") from error
    return _report(target, chosen, candidates, path)


def _choose(target: ExpectedTensors, candidates: Sequence[Candidate], path: Path, key: str | None) -> Candidate:
    named = [c for c in candidates if key is None or c.is_named(key)]
    if not named:
        places = ", ".join(c.title for c in candidates)
        raise ModelError(f"the weights {path} have no tensors under '{key}'", hint=f"--weights-key may be: {places}")
    fitting = _distinct(target, [c for c in named if target.fits(c)])
    if not fitting:
        raise _misfit_error(target, named, path)
    averaged = [c for c in fitting if c.is_averaged]
    # Training code that keeps an average evaluates with it.
    chosen = averaged if key is None and len(averaged) == 1 else fitting
    if len(chosen) > 1:
        places = ", ".join(c.title for c in chosen)
        raise ModelError(
            f"the weights {path} hold {len(chosen)} different sets of tensors that fit the network: {places}",
            hint=f"choose one with --weights-key, such as --weights-key {chosen[0].label or '.'}",
        )
    return chosen[0]


def _distinct(target: ExpectedTensors, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Drop candidates whose tensors equal those of an earlier one."""
    distinct: list[Candidate] = []
    for candidate in candidates:
        if not any(_are_equal(target, candidate, earlier) for earlier in distinct):
            distinct.append(candidate)
    return distinct


def _are_equal(target: ExpectedTensors, a: Candidate, b: Candidate) -> bool:
    needed = [name for name in target.expected if name in a.tensors and name in b.tensors]
    return all(torch.equal(a.tensors[name], b.tensors[name]) for name in needed)


def _misfit_error(target: ExpectedTensors, candidates: Sequence[Candidate], path: Path) -> ModelError:
    nearest = max(candidates, key=lambda c: (target.matches(c.tensors), len(c.tensors)))
    tensors = nearest.tensors
    location = f", read at '{nearest.label}'," if nearest.label else ""
    problems = {
        "missing": target.missing(tensors),
        "unexpected": target.unexpected(tensors),
        "of another shape": target.misshaped(tensors),
    }
    summary = "; ".join(f"{len(keys)} {kind}: {_first_few(keys)}" for kind, keys in problems.items() if keys)
    names = f"found {_first_few(tensors)}, expected {_first_few(target.expected)}"
    return ModelError(
        f"the weights {path}{location} do not fit the network: {summary}; {names}",
        hint="pass weights of exactly this architecture and number of classes",
    )


def _report(target: ExpectedTensors, chosen: Candidate, candidates: Sequence[Candidate], path: Path) -> str:
    """Return and log the position of the weights and the unread rest; a warning where the rest may have been meant."""
    half = len(target.expected) / 2
    unread = [c for c in candidates if c.label != chosen.label and target.matches(c.tensors) >= half]
    kind = "averaged weights" if chosen.is_averaged else "weights"
    line = f"{path.name}: the {kind}" + (f" at '{chosen.label}'" if chosen.label else "")
    doubts = []
    if unread:
        titles = (f"{c.title}{'' if target.fits(c) else ' (incomplete)'}" for c in unread)
        doubts.append(f"{', '.join(titles)} not read; choose with --weights-key")
    ignored = Counter(key.partition(".")[0] for key in (*chosen.outside, *target.unexpected(chosen.tensors)))
    if ignored:
        doubts.append(f"ignored, as the network has none: {_first_few(f'{top} ({n})' for top, n in ignored.items())}")
    line = "; ".join([line, *doubts])
    log.log(logging.WARNING if doubts else logging.INFO, "weights %s", line)
    return line


def _is_plain(loaded: object) -> bool:
    return not any(isinstance(entry, Placeholder) for entry in (loaded.values() if isinstance(loaded, dict) else ()))


def _not_tensors_error(loaded: object, path: Path) -> ModelError:
    entries = list(loaded.values()) if isinstance(loaded, dict) else [loaded]
    objects = [entry.full_name for entry in entries if isinstance(entry, Placeholder)]
    if objects:
        message = f"the weights {path} hold pickled code, which is not run: objects of {_first_few(objects)}"
        return ModelError(message, hint=EXPORT)
    contents = f"an object of type {type(loaded).__name__}" if not isinstance(loaded, dict) else "nothing"
    if isinstance(loaded, dict) and loaded:
        contents = f"the keys {_first_few(map(str, loaded))}"
    return ModelError(
        f"the weights {path} are not a state dict, a mapping from names to tensors: found {contents}", hint=EXPORT
    )


def _first_few(keys: Iterable[str]) -> str:
    listed = list(keys)
    return ", ".join(listed[:_LISTED]) + (" ..." if len(listed) > _LISTED else "")
