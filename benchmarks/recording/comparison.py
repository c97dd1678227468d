"""The comparison of two recordings, value by value."""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .entries import Entry, Recording

_TENSOR = re.compile(r"(?:[0-9a-f]{8})+")


@dataclass
class Comparison:
    """The counts by kind of entry, and every difference of a number, code, status or field."""

    total: Counter[str] = field(default_factory=Counter)
    identical: Counter[str] = field(default_factory=Counter)
    reworded: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    @property
    def is_identical(self) -> bool:
        """No number, code, status or field differs."""
        return not self.differences


def compare(previous: Recording, updated: Recording) -> Comparison:
    """Compare entry by entry; texts that may be written anew are counted only."""
    result = Comparison()
    counterparts = {entry.name: entry for entry in updated.entries}
    for entry in previous.entries:
        result.total[entry.kind] += 1
        counterpart = counterparts.pop(entry.name, None)
        differences = ["is missing in the second"] if counterpart is None else _entry_differences(entry, counterpart)
        result.differences += [f"{entry.name}: {difference}" for difference in differences]
        result.identical[entry.kind] += not differences
        result.reworded[entry.kind] += counterpart is not None and entry.wording != counterpart.wording
    result.differences += [f"{name}: is missing in the first" for name in counterparts]
    return result


def _entry_differences(previous: Entry, updated: Entry) -> list[str]:
    if previous.digest != updated.digest:
        return ["another request was sent"]
    return value_differences(previous.exact, updated.exact)


def value_differences(previous: Any, updated: Any, path: str = "") -> list[str]:
    """List where two values differ, by path; numbers of different types or signs of zero differ, too."""
    if isinstance(previous, dict) and isinstance(updated, dict):
        differences = []
        for key in [*previous, *(key for key in updated if key not in previous)]:
            place = f"{path}.{key}" if path else key
            if key not in previous or key not in updated:
                differences.append(f"{place} {'appeared' if key not in previous else 'is gone'}")
            else:
                differences += value_differences(previous[key], updated[key], place)
        return differences
    if isinstance(previous, list) and isinstance(updated, list) and len(previous) == len(updated):
        pairs = enumerate(zip(previous, updated, strict=True))
        return [text for i, pair in pairs for text in value_differences(*pair, f"{path}[{i}]")]
    if repr(previous) == repr(updated):  # exact for floats: their shortest text that reads back as the same number
        return []
    return [f"{path}: {_change(previous, updated)}"]


def _change(previous: Any, updated: Any) -> str:
    """Describe how a leaf differs; for float32 tensors in hex, in how many values and how far."""
    texts = [value if isinstance(value, str) else repr(value) for value in (previous, updated)]
    if len(texts[0]) == len(texts[1]) >= 16 and all(_TENSOR.fullmatch(text) for text in texts):
        count = len(texts[0]) // 8
        first, second = (struct.unpack(f"<{count}f", bytes.fromhex(text)) for text in texts)
        gaps = [abs(a - b) for a, b in zip(first, second, strict=True) if a != b and math.isfinite(a - b)]
        return f"{len(gaps)} of {count} values differ, by at most {max(gaps, default=0.0):.3g}"
    return " -> ".join(text if len(text) <= 120 else f"{text[:120]}..." for text in texts)
