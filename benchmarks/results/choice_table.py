"""Values of hyperparameters that are compared on held-out corruptions, and the table that compares them."""

from __future__ import annotations

from collections.abc import Sequence

from app.evaluation.metrics import CLEAN, Figures, Summary, mean, summarize
from app.evaluation.report.tables import code, markdown, number, points
from benchmarks.results.plan import ORDERS, PublishedEvaluation

VALUES: dict[str, tuple[str, ...]] = {
    "the pace of `adabn`": ("adabn", *(f"adabn:momentum={value:g}" for value in (0.025, 0.05, 0.2, 0.4))),
    "the memory and the gate of `lame`": (
        "adabn+lame",
        *(f"adabn+lame:memory={value}" for value in (4, 8, 32, 64)),
        "adabn+lame:when=always",
    ),
    "the k of `iabn`": ("iabn", *(f"iabn:k={value}" for value in (4, 8, 32, 64))),
}
"""The values that are compared, by what they are of; the default is first."""

CHOICE = PublishedEvaluation(
    name="choice",
    strategies=("source", *(strategy for group in VALUES.values() for strategy in group)),
    protocols=("continual", "mixed", CLEAN),
    orders=ORDERS,
    batches=(1, 64),
    seeds=1,
    limit=500,
)

CLEARLY = 1.0
"""Points by which a value must be better in the mean than the default, and may nowhere be worse, to be proposed."""


def better(summaries: Sequence[Summary], default: Sequence[Summary]) -> bool:
    """Return whether a value is clearly better than the default: see `CLEARLY`. Clean places count as places only."""
    baseline = {summary.place: summary.error for summary in default}
    gains = {
        summary.place: baseline[summary.place] - summary.error for summary in summaries if summary.place in baseline
    }
    shifted = [gain for place, gain in gains.items() if place.protocol != CLEAN]
    return bool(shifted) and mean(shifted) >= CLEARLY and min(gains.values()) > -CLEARLY


def table(figures: Sequence[Figures]) -> str:
    """A row for each value: its mean error, that at each place, and what it does to clean images."""
    by_value: dict[str, list[Summary]] = {}
    for summary in summarize(figures):
        by_value.setdefault(summary.strategy, []).append(summary)
    places = [summary.place for summary in by_value["source"] if summary.place.protocol != CLEAN]
    head = ["", "mean", *(", ".join(map(str, place)) for place in places), "clean", "clearly better"]
    rows = [_row("source", by_value["source"], [])]
    for group in VALUES.values():
        rows += [_row(name, by_value[name], by_value.get(group[0], [])) for name in group if name in by_value]
    return markdown(head, rows)


def _row(name: str, summaries: Sequence[Summary], default: Sequence[Summary]) -> list[str]:
    shifted = [summary.error for summary in summaries if summary.place.protocol != CLEAN]
    clean = mean([summary.difference for summary in summaries if summary.place.protocol == CLEAN])
    verdict = "" if summaries is default or not default else "yes" if better(summaries, default) else "no"
    return [code(name), number(mean(shifted)), *map(number, shifted), points(clean), verdict or "(the default)"]
