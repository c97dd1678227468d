"""Tables and the page of a run of `python -m benchmarks.load.deadline`."""

from __future__ import annotations

from benchmarks.common import markdown
from benchmarks.load.deadline.results import DeadlineResults

SOURCE, TARGET, FULL = "source", 0.97, 100
"""The strategy that all are compared with; the least utility over offline accuracy of a strategy without a learner, at
that utilisation in percent."""

Table = list[list[str]]


def strategies(results: DeadlineResults) -> Table:
    """The strategies where every frame is answered: accuracy, and the time of a frame."""
    reference = results.offline_row(SOURCE)
    head = ["strategy", "offline accuracy %", "ms a frame", f"over {SOURCE}'s"]
    return [
        head,
        *(
            [row.strategy, f"{100 * row.accuracy:.1f}", f"{row.frame_ms:.2f}", f"{row.ratio(reference):.2f}"]
            for row in results.offline
        ),
    ]


def utilities(results: DeadlineResults) -> Table:
    """Every strategy at every utilisation."""
    head = ["strategy, utilisation", "utility %", "answered %", "accuracy of answered %", "offline accuracy %"]
    head += ["utility / offline", "simulated", "latency ms", "camera late ms"]
    lines = [
        [
            f"{row.strategy}, {row.utilisation} %",
            *(f"{100 * row.middle(name):.1f}" for name in ("utility", "answered_share", "accuracy")),
            f"{100 * results.offline_row(row.strategy).accuracy:.1f}",
            f"{row.ratio:.3f}",
            f"{row.simulated_ratio:.3f}",
            *(_show(row.middle_ms(name)) for name in ("latency_ms", "late_ms")),
        ]
        for row in results.rows
    ]
    return [head, *lines]


def targets(results: DeadlineResults) -> Table:
    """The target at full utilisation, for strategies without a learner."""
    rows = [row for row in results.rows if row.utilisation == FULL]
    gradient_free = [row for row in rows if not results.offline_row(row.strategy).has_learner]
    head = [f"utility / offline accuracy at {FULL} %", "measured", "target", "reached", f"over {SOURCE}'s"]
    lines = [
        [
            row.strategy,
            f"{row.ratio:.3f}",
            f">= {TARGET}",
            "yes" if row.ratio >= TARGET else "**no**",
            f"{row.ratio_over(rows[0]):.3f}",
        ]
        for row in gradient_free
    ]
    return [head, *lines]


def tables(results: DeadlineResults) -> list[Table]:
    """All tables that have a line."""
    return [table for table in (strategies(results), utilities(results), targets(results)) if len(table) > 1]


def page(results: DeadlineResults, picture: str) -> str:
    """Return the page in Markdown; ``picture`` is the path of the plot."""
    conditions = "".join(f"- {name}: {value}\n" for name, value in results.machine.items())
    text = (
        "# Deadline stream: the utility of frames answered in time\n\n"
        "Frames arrive at a fixed rate, whether or not the last one is answered; one may wait, and a newer one\n"
        "replaces it. Utility is the share of correct answers among all frames. At 100 % frames arrive as often as\n"
        "`source` answers them. Figures are medians of the rounds.\n\n"
        f"{conditions}\n![Utility over offline accuracy]({picture})\n"
    )
    return text + "".join(f"\n{markdown(table)}" for table in tables(results))


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
