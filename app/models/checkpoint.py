"""Find the network's tensors in a checkpoint by the network's own keys, under any prefix or wrapper."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_DEPTH, _WIDTH = 8, 10_000
"""Limits of the search for tensors in a file: depth, and number of entries."""

_WRAPPERS = frozenset({"_orig_mod", "module"})
"""Parts of keys that torch.compile, DataParallel and AveragedModel put before those of any module."""

_AVERAGED = re.compile(r"(^|[^a-z])(ema|swa|avg|averag\w*|shadow|polyak)([^a-z]|$)")

_COUNTERS = ("num_batches_tracked", "n_averaged")
"""Ends of the keys of counters, which no inference reads."""


@dataclass(frozen=True)
class Candidate:
    """Tensors of a file under the network's possible names for them; ``label`` is their position in the file."""

    label: str
    tensors: Mapping[str, Tensor]
    outside: tuple[str, ...]  # keys beside them, under no prefix of the network

    @property
    def title(self) -> str:
        """The label for messages, also where it is empty."""
        return f"'{self.label}'" if self.label else "the top level ('.')"

    @property
    def is_averaged(self) -> bool:
        """True where the name says that these are averages over the steps of training."""
        return _AVERAGED.search(re.sub(r"([a-z])([A-Z])", r"\1_\2", self.label).lower()) is not None

    def is_named(self, key: str) -> bool:
        """Tell whether ``key`` names these tensors: consecutive parts of the label, or '.' for an empty one."""
        parts, key_parts = self.label.split("."), _parts(key)
        rows = [parts[i : i + len(key_parts)] for i in range(len(parts))]
        return key_parts in rows if key_parts else not self.label


class ExpectedTensors:
    """The tensors that a network expects. Names are without the parts that wrappers add, on both sides."""

    def __init__(self, network: nn.Module) -> None:
        # Extra states are no tensors.
        tensors = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
        plain = {_plain(key): key for key in tensors}
        self.names = plain if len(plain) == len(tensors) else {key: key for key in tensors}
        """From each name to the network's own key."""
        self.expected = {name: tensors[key] for name, key in self.names.items()}

    def missing(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the expected names that are absent, except counters of batches."""
        return [name for name in self.expected if name not in tensors and not name.endswith(_COUNTERS)]

    def misshaped(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names of tensors of another shape, with both shapes."""
        return [
            f"{name} {list(tensors[name].shape)} instead of {list(value.shape)}"
            for name, value in self.expected.items()
            if name in tensors and not is_lazy(value) and tensors[name].shape != value.shape
        ]

    def unexpected(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names that the network does not have."""
        return [name for name in tensors if name not in self.expected and not name.endswith(_COUNTERS)]

    def foreign(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Unexpected tensors inside the network's own modules: another architecture, though all that it has fits.

        A module of another name beside them (a criterion, an unused head) is none, unless it normalizes, as trunks do.
        """
        unexpected = self.unexpected(tensors)
        tops = {_top(name) for name in self.expected} | {_top(n) for n in unexpected if n.endswith("running_mean")}
        return [name for name in unexpected if _top(name) in tops or _top(name).isdecimal()]

    def fits(self, candidate: Candidate) -> bool:
        """Tell whether these tensors can be loaded into the network."""
        tensors = candidate.tensors
        return not (self.missing(tensors) or self.misshaped(tensors) or self.foreign(tensors))

    def matches(self, tensors: Mapping[str, Tensor]) -> int:
        """Count the expected names that are present."""
        return sum(name in tensors for name in self.expected)

    def candidates(self, loaded: object) -> list[Candidate]:
        """Return every position in a file that might hold the network, each once."""
        return [candidate for path, tensors in mappings(loaded) for candidate in self._candidates_in(path, tensors)]

    def _candidates_in(self, path: str, tensors: Mapping[str, Tensor]) -> Iterator[Candidate]:
        """Yield the mapping under each prefix that makes its keys the network's, or the mapping itself."""
        plain = {_plain(key): value for key, value in tensors.items()}
        tensors = plain if len(plain) == len(tensors) else tensors
        prefixes = self._prefixes(tensors)
        if not prefixes or self.matches(tensors):
            prefixes |= {""}
        for prefix in sorted(prefixes):
            longer = tuple(p for p in prefixes if p != prefix and p.startswith(prefix))
            keys = [key for key in tensors if key.startswith(prefix) and not (longer and key.startswith(longer))]
            inside = {key.removeprefix(prefix): tensors[key] for key in keys}
            outside = tuple(k for k in tensors if not k.startswith(tuple(prefixes)) and not k.endswith(_COUNTERS))
            yield Candidate(".".join(_parts(f"{path}.{prefix}")), self._with_twins(inside), outside)

    def _prefixes(self, tensors: Mapping[str, Tensor]) -> set[str]:
        """Return the prefixes behind which at least half of the network's keys are present."""
        sample = [*list(self.expected)[:2], *list(self.expected)[-2:]]
        prefixes = {key.removesuffix(end) for end in sample for key in tensors if key.endswith(f".{end}")}
        return {
            prefix
            for prefix in prefixes
            if 2 * sum(f"{prefix}{name}" in tensors for name in self.expected) >= len(self.expected)
        }

    @cached_property
    def _twins(self) -> list[list[str]]:
        """The names of each tensor that has several names."""
        owners: dict[object, list[str]] = {}
        for name, value in self.expected.items():
            if not is_lazy(value) and value.numel():
                owners.setdefault((value.data_ptr(), value.shape, value.stride()), []).append(name)
        return [names for names in owners.values() if len(names) > 1]

    def _with_twins(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Add the missing names of tensors that the network has under several names and the file under one."""
        lent = {name: tensors[twin] for names in self._twins for twin in names if twin in tensors for name in names}
        return {**lent, **tensors}


def mappings(loaded: object) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Yield every mapping from names to tensors in a file, with its path: the keys to it, joined by dots."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), loaded)]
    visited: set[int] = set()
    while waiting and len(visited) < _WIDTH:
        path, value = waiting.pop(0)
        if id(value) in visited or len(path) > _DEPTH:
            continue
        visited.add(id(value))
        entries = _entries(value)
        tensors = {key: entry for key, entry in entries if isinstance(key, str) and isinstance(entry, Tensor)}
        if tensors:
            yield ".".join(path), tensors
        waiting += [((*path, str(key)), entry) for key, entry in entries if isinstance(entry, Mapping | list | tuple)]


def flattened(loaded: object) -> dict[str, Tensor]:
    """All tensors of a file under their whole paths: for files that hold the parts of a network one by one."""
    return {f"{path}.{key}".lstrip("."): value for path, tensors in mappings(loaded) for key, value in tensors.items()}


def _entries(value: object) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _parts(key: str) -> list[str]:
    return [part for part in key.split(".") if part]


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _top(key: str) -> str:
    return key.partition(".")[0]
