"""The tables of a report, in Markdown. What is not known is shown as "-"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.evaluation.metrics import CLEAN, SOURCE, Place, Summary, mean, worst

MISSING = "-"


class Study(NamedTuple):
    """What the tables are made of."""

    summaries: Sequence[Summary]
    domains: Sequence[str]  # names, by index; where there are none they are numbered

    @property
    def strategies(self) -> dict[str, list[Summary]]:
        """The summaries of each strategy, in the order given."""
        found: dict[str, list[Summary]] = {}
        for one in self.summaries:
            found.setdefault(one.strategy, []).append(one)
        return found

    @property
    def places(self) -> list[Place]:
        """Every place that a strategy was run at."""
        return list(dict.fromkeys(one.place for one in self.summaries))

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Every protocol and order that a strategy was run with."""
        return list(dict.fromkeys(place[:2] for place in self.places))

    def domain(self, index: int) -> str:
        """A domain's name."""
        return self.domains[index] if index < len(self.domains) else f"domain {index}"


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose columns are numbers, set to the right, but for the first ``left``."""
    rule = ["---" if i < left else "---:" for i in range(len(headers))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (headers, rule, *rows))


def text(value: str) -> str:
    """A string that a table can hold, whatever it is made of."""
    return " ".join(value.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def code(value: str) -> str:
    """A strategy's name as code."""
    return f"`{value.replace('|', chr(92) + '|')}`"


def number(value: float, decimals: int = 1) -> str:
    """A figure, with commas between thousands."""
    # Rounded first, because a negative zero would keep its sign.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}" if math.isfinite(value) else MISSING


def points(value: float) -> str:
    """A difference of errors, with its sign."""
    return f"{round(value, 1) + 0.0:+.1f}" if math.isfinite(value) else MISSING


def overview_table(study: Study) -> str:
    """One row for each strategy over all places; best mean errors are bold where every place was run."""
    sizes = sorted({place.batch for place in study.places})
    ends = sizes if len(sizes) < 2 else [sizes[0], sizes[-1]]
    headers = ["strategy", "error %", "to source", "worst", "where", "clean to source", "ECE %", "state bytes"]
    shifted = sum(place.protocol != CLEAN for place in study.places)
    rows = {name: _overall(name, own, shifted) for name, own in study.strategies.items()}
    # A column of dashes is none.
    if any(math.isfinite(one.images_per_s) for one in study.summaries):
        headers.insert(-1, f"images/s, requests of {' / '.join(map(str, ends))}")
        for name, own in study.strategies.items():
            rows[name].insert(-1, " / ".join(number(_speed(own, batch), 0) for batch in ends))
    embolden([rows[name] for name, own in study.strategies.items() if len(_moved(own)) == shifted], 1)
    return markdown(headers, list(rows.values()))


def _overall(strategy: str, own: Sequence[Summary], shifted: int) -> list[str]:
    moved = _moved(own)
    clean = [one.difference for one in own if one.place.protocol == CLEAN and math.isfinite(one.difference)]
    hardest = worst(own) if strategy != SOURCE else None
    # Not all places means not the same mean: it is told, and not compared.
    short = f" ({len(moved)} of {shifted} places)" if len(moved) < shifted else ""
    return [
        code(strategy),
        number(mean([one.error for one in moved])) + short,
        points(mean([one.difference for one in moved if math.isfinite(one.difference)])),
        points(hardest.difference) if hardest else MISSING,
        str(hardest.place) if hardest else MISSING,
        points(mean(clean)) + (f" (worst {points(max(clean))})" if len(clean) > 1 else ""),
        number(mean([one.ece for one in moved])),
        number(max(one.state_bytes for one in own), 0),
    ]


def _moved(own: Sequence[Summary]) -> list[Summary]:
    return [one for one in own if one.place.protocol != CLEAN]


def _speed(own: Sequence[Summary], batch: int) -> float:
    return mean([s.images_per_s for s in own if s.place.batch == batch and math.isfinite(s.images_per_s)])


def place_table(study: Study, protocol: str, order: str) -> str:
    """Error and difference to source of each strategy and request size at a protocol and order; the best bold."""
    here = [one for one in study.summaries if one.place[:2] == (protocol, order)]
    sizes = sorted({one.place.batch for one in here})
    found = {(one.strategy, one.place.batch): one for one in here}
    rows = []
    for name in study.strategies:
        cells = [found.get((name, batch)) for batch in sizes]
        rows.append([code(name), *(_cell(one) for one in cells)])
    for column in range(1, len(sizes) + 1):
        embolden(rows, column)
    return markdown(["error %, requests of", *map(str, sizes)], rows)


def _cell(one: Summary | None) -> str:
    if one is None:
        return MISSING
    return number(one.error) + ("" if one.strategy == SOURCE else f" ({points(one.difference)})")


def embolden(rows: Sequence[list[str]], column: int) -> None:
    """Make the smallest leading numbers of a column bold, all of them where several are shown alike."""
    shown = {i: row[column] for i, row in enumerate(rows) if row[column] != MISSING}
    if len(shown) < 2:
        return
    values = {i: float(cell.split()[0]) for i, cell in shown.items()}
    for i, value in values.items():
        if value == min(values.values()):
            rows[i][column] = f"**{shown[i]}**"


def domain_table(study: Study) -> str:
    """Mean error on each domain over all places but the clean ones; empty where there are none."""
    columns: Mapping[str, Mapping[int, float]] = {name: _by_domain(own) for name, own in study.strategies.items()}
    indices = sorted({index for own in columns.values() for index in own})
    if not indices:
        return ""
    if len(indices) > len(columns):
        rows = [[text(study.domain(i)), *(number(own.get(i, math.nan)) for own in columns.values())] for i in indices]
        return markdown(["error %", *map(code, columns)], rows)
    rows = [[code(name), *(number(own.get(i, math.nan)) for i in indices)] for name, own in columns.items()]
    return markdown(["error %", *(text(study.domain(i)) for i in indices)], rows)


def _by_domain(own: Sequence[Summary]) -> dict[int, float]:
    moved = [one.domain_errors for one in _moved(own)]
    return {i: mean([errors[i] for errors in moved if i in errors]) for i in {i for errors in moved for i in errors}}
