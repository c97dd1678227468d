"""The table of strategies in README.md: what each is for, and its figures from docs/results.csv."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from app.evaluation.metrics import CLEAN, Figures, Place, Summary, summarize
from app.evaluation.report.tables import MISSING, code, embolden, markdown, number, points

USES = {
    "source": "the baseline: `model.eval()`",
    "bn": "large requests of shuffled images; keeps no state",
    "alpha_bn": "large requests of shuffled images, and tolerates small ones; keeps no state",
    "adabn": "shuffled images in requests of any size; loses accuracy on correlated streams",
    "robust_bn": "long streams of large requests, shuffled or correlated; never single images of a correlated stream",
    "unmix_tns": (
        "cautious: gains little, but costs at most 4 points on clean images whatever the stream held before, and "
        "nothing under corruptions, for every request size and order"
    ),
    "iabn": "small requests, mixed corruptions, correlated streams with short runs of one class",
    "tema": "shuffled images in requests of changing size",
    "james_stein": "a fixed camera: clean images cost nothing however long one class is shown; severe shifts gain",
    "shrinkage": "streams of any order whose images should not be corrected by their neighbours: `auto` without `lame`",
    "tent": "long streams of large requests with many classes; never small requests",
    "core": "like `alpha_bn`, and learns from requests of 100 images or more: gains half a point at most",
    "rotta": "very long streams only: it follows a shift over thousands of images",
    "temperature": "calibrated confidences; it changes no prediction",
    "lame": "video from a camera without a shift, where the network is mostly right already",
    "lame:memory=0,when=always": "LAME as published: large requests with few classes",
    "cofa": "like `lame`, without a memory of images",
    "adabn+lame": "**video**: correlated streams, runs of up to a few hundred images of a class, requests of any size",
    "iabn+lame": "like `adabn+lame`, and better for single images",
    "james_stein+lame": "a fixed camera that shows one class for long, or for a time that nobody knows",
    "auto": "**the default**: streams of unknown order",
    "adabn+cofa": "video with short runs of one class; not for shuffled images",
    "unmix_tns+tent:lr=1e-05": "very long streams, with the learning rate of the UnMix-TNS paper",
}
"""What each strategy is for, in the order of the table."""

CHOICES = ("source", "auto", "adabn", "robust_bn", "unmix_tns", "iabn", "adabn+lame", "iabn+lame")
"""Strategies of README's table, which a user would choose between; docs/results.md has all."""

BEGIN, END = "<!-- strategies: made by `make results` from docs/results.csv -->", "<!-- /strategies -->"
SHIFTED, ORDERS, SIZES = "continual", ("iid", "dirichlet:0.1"), (64, 1)
TITLES = ("shuffled", "correlated")
"""The words for `ORDERS` in the heads of columns."""


def table(figures: Sequence[Figures], strategies: Iterable[str] = tuple(USES)) -> str:
    """A row for each strategy: errors where classes are mixed and where not, harm to clean images, memory."""
    summaries = {(summary.strategy, summary.place): summary for summary in summarize(figures)}
    rows = [_row(strategy, USES[strategy], summaries) for strategy in strategies]
    for column in range(2, 2 + len(ORDERS) * len(SIZES)):
        embolden(rows, column)
    sizes = [f"{title}, {size}" for title in TITLES for size in SIZES]
    sizes_label = " / ".join(map(str, SIZES))
    harm = [f"clean, {title}, {sizes_label}" for title in TITLES]
    return markdown(["strategy", "use it for", *sizes, *harm, "bytes per stream"], rows, text_columns=2)


def _row(strategy: str, use: str, summaries: Mapping[tuple[str, Place], Summary]) -> list[str]:
    def at(protocol: str, order: str, size: int) -> Summary | None:
        return summaries.get((strategy, Place(protocol, order, size)))

    shifted = [at(SHIFTED, order, size) for order in ORDERS for size in SIZES]
    clean = [[at(CLEAN, order, size) for size in SIZES] for order in ORDERS]
    memory = [summary.state_bytes for (name, _), summary in summaries.items() if name == strategy]
    return [
        code(strategy),
        use,
        *(MISSING if summary is None else number(summary.error) for summary in shifted),
        *(" / ".join(MISSING if summary is None else points(summary.difference) for summary in row) for row in clean),
        number(max(memory), 0) if memory else MISSING,
    ]


def put(page: str, content: str) -> str:
    """Return the page with ``content`` between its two markers.

    Raises:
        ValueError: the page has not each of them once, in this order.
    """
    pattern = f"{re.escape(BEGIN)}\n.*{re.escape(END)}\n"
    if page.count(BEGIN) != 1 or page.count(END) != 1 or not re.search(pattern, page, re.DOTALL):
        raise ValueError(f"the page needs the lines {BEGIN} and {END}, once each")
    return re.sub(pattern, lambda _: f"{BEGIN}\n\n{content}\n{END}\n", page, flags=re.DOTALL)
