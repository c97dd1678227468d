"""Which tensors of a checkpoint are the network's: found by the network's own keys, whatever is wrapped around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_DEPTH, _WIDTH = 8, 10_000
"""How deep, and through how many entries, a file is searched for tensors."""

_WRAPPERS = frozenset({"_orig_mod", "module"})
"""Parts of keys that torch.compile, DataParallel and AveragedModel put before those of any module."""

_AVERAGED = re.compile(r"(^|[^a-z])(ema|swa|avg|averag\w*|shadow|polyak)([^a-z]|$)")

_COUNTERS = ("num_batches_tracked", "n_averaged")
"""Ends of the keys of counters, which nothing reads when a network answers."""


@dataclass(frozen=True)
class Candidate:
    """Tensors of a file under the names that the network might give them; ``label`` says where they stand in it."""

    label: str
    tensors: Mapping[str, Tensor]
    outside: tuple[str, ...]  # keys beside them, under no prefix of the network

    @property
    def title(self) -> str:
        """The label for people, also where it is empty."""
        return f"'{self.label}'" if self.label else "the top level ('.')"

    @property
    def is_averaged(self) -> bool:
        """Whether the name says that these are averages over the steps of training."""
        return _AVERAGED.search(re.sub(r"([a-z])([A-Z])", r"\1_\2", self.label).lower()) is not None

    def is_named(self, key: str) -> bool:
        """Whether ``key`` names these tensors: some parts of the label in a row, or '.' for an empty one."""
        parts, wanted = self.label.split("."), _parts(key)
        rows = [parts[i : i + len(wanted)] for i in range(len(parts))]
        return wanted in rows if wanted else not self.label


class Target:
    """The tensors that a network expects. Names are without the parts that wrappers add, on both sides."""

    def __init__(self, network: nn.Module) -> None:
        # Extra states are no tensors.
        tensors = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
        plain = {_plain(key): key for key in tensors}
        self.names = plain if len(plain) == len(tensors) else {key: key for key in tensors}
        """From each name to the network's own key."""
        self.expected = {name: tensors[key] for name, key in self.names.items()}

    def missing(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """The expected names that are not there; a counter of batches need not be."""
        return [name for name in self.expected if name not in tensors and not name.endswith(_COUNTERS)]

    def misshaped(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Those of another shape, with both shapes."""
        return [
            f"{name} {list(tensors[name].shape)} instead of {list(value.shape)}"
            for name, value in self.expected.items()
            if name in tensors and not is_lazy(value) and tensors[name].shape != value.shape
        ]

    def unexpected(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Those that the network does not have."""
        return [name for name in tensors if name not in self.expected and not name.endswith(_COUNTERS)]

    def foreign(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Unexpected tensors inside the network's own modules: another architecture, though all that it has fits.

        A module of another name beside them (a criterion, an unused head) is none, unless it normalizes, as trunks do.
        """
        unexpected = self.unexpected(tensors)
        tops = {_top(name) for name in self.expected} | {_top(n) for n in unexpected if n.endswith("running_mean")}
        return [name for name in unexpected if _top(name) in tops or _top(name).isdecimal()]

    def fits(self, candidate: Candidate) -> bool:
        """Whether the network can be had from these tensors."""
        tensors = candidate.tensors
        return not (self.missing(tensors) or self.misshaped(tensors) or self.foreign(tensors))

    def matches(self, tensors: Mapping[str, Tensor]) -> int:
        """How many of the expected names are there."""
        return sum(name in tensors for name in self.expected)

    def candidates(self, loaded: object) -> list[Candidate]:
        """Every place in a file that might hold the network, each once."""
        return [found for path, tensors in mappings(loaded) for found in self._placed(path, tensors)]

    def _placed(self, path: str, tensors: Mapping[str, Tensor]) -> Iterator[Candidate]:
        """The mapping under each prefix that makes its keys the network's; as it is where there is none."""
        plain = {_plain(key): value for key, value in tensors.items()}
        tensors = plain if len(plain) == len(tensors) else tensors
        prefixes = self._prefixes(tensors)
        if not prefixes or self.matches(tensors):
            prefixes |= {""}
        for prefix in sorted(prefixes):
            others = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
            keys = [key for key in tensors if key.startswith(prefix) and not (others and key.startswith(others))]
            inside = {key.removeprefix(prefix): tensors[key] for key in keys}
            outside = tuple(k for k in tensors if not k.startswith(tuple(prefixes)) and not k.endswith(_COUNTERS))
            yield Candidate(".".join(_parts(f"{path}.{prefix}")), self._with_twins(inside), outside)

    def _prefixes(self, tensors: Mapping[str, Tensor]) -> set[str]:
        """What stands before the network's keys, where half of them or more are found behind it."""
        sample = [*list(self.expected)[:2], *list(self.expected)[-2:]]
        found = {key.removesuffix(end) for end in sample for key in tensors if key.endswith(f".{end}")}
        return {
            prefix
            for prefix in found
            if 2 * sum(f"{prefix}{name}" in tensors for name in self.expected) >= len(self.expected)
        }

    @cached_property
    def _twins(self) -> list[list[str]]:
        """The names of each tensor that has several."""
        owners: dict[object, list[str]] = {}
        for name, value in self.expected.items():
            if not is_lazy(value) and value.numel():
                owners.setdefault((value.data_ptr(), value.shape, value.stride()), []).append(name)
        return [names for names in owners.values() if len(names) > 1]

    def _with_twins(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """With every name of a tensor that the network has under several, and the file under one."""
        lent = {name: tensors[twin] for names in self._twins for twin in names if twin in tensors for name in names}
        return {**lent, **tensors}


def mappings(loaded: object) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping from names to tensors in a file, with where it stands: the keys to it, joined by dots."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), loaded)]
    seen: set[int] = set()
    while waiting and len(seen) < _WIDTH:
        path, value = waiting.pop(0)
        if id(value) in seen or len(path) > _DEPTH:
            continue
        seen.add(id(value))
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
