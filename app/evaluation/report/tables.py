"""The tables of a report, in Markdown. Unknown values are shown as "-"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.evaluation.metrics import CLEAN, SOURCE, Place, Summary, mean, worst

MISSING = "-"


class Study(NamedTuple):
    """The content of the tables."""

    summaries: Sequence[Summary]
    domains: Sequence[str]  # names, by index; where there are none they are numbered

    @property
    def strategies(self) -> dict[str, list[Summary]]:
        """The summaries of each strategy, in their order."""
        groups: dict[str, list[Summary]] = {}
        for summary in self.summaries:
            groups.setdefault(summary.strategy, []).append(summary)
        return groups

    @property
    def places(self) -> list[Place]:
        """Every place that a strategy was run at."""
        return list(dict.fromkeys(summary.place for summary in self.summaries))

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Every protocol and order that a strategy was run with."""
        return list(dict.fromkeys(place[:2] for place in self.places))

    def domain(self, index: int) -> str:
        """A domain's name."""
        return self.domains[index] if index < len(self.domains) else f"domain {index}"


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Return a table whose columns are numbers, set to the right, except the first ``text_columns``."""
    rule = ["---" if i < text_columns else "---:" for i in range(len(headers))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (headers, rule, *rows))


def text(value: str) -> str:
    """Escape a string for a table cell."""
    return " ".join(value.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def code(value: str) -> str:
    """Format a strategy's name as code."""
    return f"`{value.replace('|', chr(92) + '|')}`"


def number(value: float, decimals: int = 1) -> str:
    """Format a number, with commas between thousands."""
    # Rounded first, because a negative zero would keep its sign.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}" if math.isfinite(value) else MISSING


def points(value: float) -> str:
    """Format a difference of errors, with its sign."""
    return f"{round(value, 1) + 0.0:+.1f}" if math.isfinite(value) else MISSING


def overview_table(study: Study) -> str:
    """One row for each strategy over all places; best mean errors are bold where every place was run."""
    sizes = sorted({place.batch for place in study.places})
    ends = sizes if len(sizes) < 2 else [sizes[0], sizes[-1]]
    headers = ["strategy", "error %", "to source", "worst", "where", "clean to source", "ECE %", "state bytes"]
    shifted = sum(place.protocol != CLEAN for place in study.places)
    rows = {name: _overall(name, summaries, shifted) for name, summaries in study.strategies.items()}
    # A column of dashes would say nothing.
    if any(math.isfinite(summary.images_per_s) for summary in study.summaries):
        headers.insert(-1, f"images/s, requests of {' / '.join(map(str, ends))}")
        for name, summaries in study.strategies.items():
            rows[name].insert(-1, " / ".join(number(_speed(summaries, batch), 0) for batch in ends))
    embolden([rows[name] for name, summaries in study.strategies.items() if len(_shifted(summaries)) == shifted], 1)
    return markdown(headers, list(rows.values()))


def _overall(strategy: str, summaries: Sequence[Summary], shifted: int) -> list[str]:
    moved = _shifted(summaries)
    clean = [s.difference for s in summaries if s.place.protocol == CLEAN and math.isfinite(s.difference)]
    hardest = worst(summaries) if strategy != SOURCE else None
    # A mean over fewer places is marked, and not compared.
    coverage = f" ({len(moved)} of {shifted} places)" if len(moved) < shifted else ""
    return [
        code(strategy),
        number(mean([summary.error for summary in moved])) + coverage,
        points(mean([summary.difference for summary in moved if math.isfinite(summary.difference)])),
        points(hardest.difference) if hardest else MISSING,
        str(hardest.place) if hardest else MISSING,
        points(mean(clean)) + (f" (worst {points(max(clean))})" if len(clean) > 1 else ""),
        number(mean([summary.ece for summary in moved])),
        number(max(summary.state_bytes for summary in summaries), 0),
    ]


def _shifted(summaries: Sequence[Summary]) -> list[Summary]:
    return [summary for summary in summaries if summary.place.protocol != CLEAN]


def _speed(summaries: Sequence[Summary], batch: int) -> float:
    return mean([s.images_per_s for s in summaries if s.place.batch == batch and math.isfinite(s.images_per_s)])


def place_table(study: Study, protocol: str, order: str) -> str:
    """Error and difference to source of each strategy and request size at a protocol and order; the best bold."""
    summaries = [summary for summary in study.summaries if summary.place[:2] == (protocol, order)]
    sizes = sorted({summary.place.batch for summary in summaries})
    by_cell = {(summary.strategy, summary.place.batch): summary for summary in summaries}
    rows = []
    for name in study.strategies:
        cells = [by_cell.get((name, batch)) for batch in sizes]
        rows.append([code(name), *(_cell(summary) for summary in cells)])
    for column in range(1, len(sizes) + 1):
        embolden(rows, column)
    return markdown(["error %, requests of", *map(str, sizes)], rows)


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return MISSING
    return number(summary.error) + ("" if summary.strategy == SOURCE else f" ({points(summary.difference)})")


def embolden(rows: Sequence[list[str]], column: int) -> None:
    """Make the smallest leading numbers of a column bold, all of them where several are equal as shown."""
    cells = {i: row[column] for i, row in enumerate(rows) if row[column] != MISSING}
    if len(cells) < 2:
        return
    values = {i: float(cell.split()[0]) for i, cell in cells.items()}
    for i, value in values.items():
        if value == min(values.values()):
            rows[i][column] = f"**{cells[i]}**"


def domain_table(study: Study) -> str:
    """Mean error on each domain over all places but the clean ones; empty where there are none."""
    columns: Mapping[str, Mapping[int, float]] = {
        name: _by_domain(summaries) for name, summaries in study.strategies.items()
    }
    indices = sorted({index for errors in columns.values() for index in errors})
    if not indices:
        return ""
    if len(indices) > len(columns):
        rows = [[text(study.domain(i)), *(number(row.get(i, math.nan)) for row in columns.values())] for i in indices]
        return markdown(["error %", *map(code, columns)], rows)
    rows = [[code(name), *(number(errors.get(i, math.nan)) for i in indices)] for name, errors in columns.items()]
    return markdown(["error %", *(text(study.domain(i)) for i in indices)], rows)


def _by_domain(summaries: Sequence[Summary]) -> dict[int, float]:
    rows = [summary.domain_errors for summary in _shifted(summaries)]
    return {i: mean([row[i] for row in rows if i in row]) for i in {i for row in rows for i in row}}
