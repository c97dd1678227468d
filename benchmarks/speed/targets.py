"""The targets of speed, and the comparison of a run with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adapters import names
from benchmarks.speed.cases import FOLDED, FROZEN, MANY, MIXED, ONE, PLAIN, QUEUED, UNMIX
from benchmarks.speed.results import CaseGroup, SpeedResults, of_kind

DEAREST = "unmix_tns"

Figures = Iterator[tuple[float, str]]
"""Ratios, and of what they are."""


class Figure(NamedTuple):
    """The ratio that decides: the worst of all that a target is about."""

    value: float
    of: str


@dataclass(frozen=True)
class Target:
    """A bound on every ratio that ``figures`` finds in a run."""

    title: str
    limit: float
    figures: Callable[[SpeedResults], Figures]
    at_least: bool = False

    def worst(self, results: SpeedResults) -> Figure | None:
        """The ratio that decides, None where nothing of it was measured."""
        figures = [Figure(*figure) for figure in self.figures(results)]
        return (min if self.at_least else max)(figures, default=None)

    def reached(self, figure: Figure) -> bool:
        """Return whether the bound holds, in the two digits that are printed."""
        value = round(figure.value, 2)
        return value >= self.limit if self.at_least else value <= self.limit


def _against(
    reference: str,
    *,
    kind: str = "eager",
    model: str = "resnet50",
    batches: Sequence[int] = (1, 16),
    only: Sequence[str] | None = None,
    but: Sequence[str] = (),
) -> Callable[[SpeedResults], Figures]:
    """The strategies ``only``, or all ``but`` some, against a reference in the same group."""

    def figures(results: SpeedResults) -> Figures:
        for group in of_kind(results.groups, kind):
            if group.model == model and group.batch in batches and reference in group.seconds:
                for name in group.seconds:
                    if name in (only or names("adapter")) and name not in but:
                        yield group.ratio(name, reference), f"{name}, batch {group.batch}"

    return figures


def _faster_than_textbook(batch: int) -> Callable[[SpeedResults], Figures]:
    def figures(results: SpeedResults) -> Figures:
        for group in of_kind(results.groups, "eager"):
            if group.model == "resnet50" and group.batch == batch and {UNMIX, DEAREST} <= group.seconds.keys():
                yield group.ratio(UNMIX, DEAREST), f"{DEAREST}, batch {batch}"

    return figures


def _against_one(label: str) -> Callable[[SpeedResults], Figures]:
    def figures(results: SpeedResults) -> Figures:
        for group in of_kind(results.groups, "streams"):
            for name in _strategies(group):
                yield group.ratio(f"{name}: {label}", f"{name}: {ONE}"), f"{name}, {group.title}"

    return figures


def _mixed(against: str | None) -> Callable[[SpeedResults], Figures]:
    """Streams that take the strategies in turn, against one strategy's single request or the mean of all of them."""

    def figures(results: SpeedResults) -> Figures:
        for group in of_kind(results.groups, "streams"):
            references = [f"{name}: {ONE}" for name in _strategies(group) if against in (None, name)]
            if references:
                yield group.ratio(f"{MIXED}: {MANY}", *references), group.title

    return figures


def _strategies(group: CaseGroup) -> list[str]:
    return [name for name in names("adapter") if f"{name}: {ONE}" in group.seconds]


def _memory(results: SpeedResults) -> Figures:
    if results.held is not None:
        yield results.held.ratio, f"{results.held.streams:,} streams, {results.held.title}"


_DEAR = f"ResNet-50, `{DEAREST}`"
_LIGHT = f"ResNet-50, every strategy but `{DEAREST}`"

TARGETS = [
    Target(f"{_LIGHT}, batch 16, against plain eval", 0.75, _against(PLAIN, batches=[16], but=[DEAREST])),
    Target(f"{_LIGHT}, batch 1, against plain eval", 1.05, _against(PLAIN, batches=[1], but=[DEAREST])),
    Target(f"{_LIGHT}, batch 16, against folded channels_last", 1.15, _against(FOLDED, batches=[16], but=[DEAREST])),
    Target(f"{_LIGHT}, batch 1, against folded channels_last", 1.15, _against(FOLDED, batches=[1], but=[DEAREST])),
    Target(f"{_DEAR}, batch 16, against folded channels_last", 1.30, _against(FOLDED, batches=[16], only=[DEAREST])),
    Target(f"{_DEAR}, batch 1, against folded channels_last", 1.30, _against(FOLDED, batches=[1], only=[DEAREST])),
    Target(f"{_DEAR}, batch 16, times faster than textbook", 2.5, _faster_than_textbook(16), at_least=True),
    Target(f"{_DEAR}, batch 1, times faster than textbook", 2.5, _faster_than_textbook(1), at_least=True),
    Target(
        f"{_LIGHT}, compiled, against compiled and frozen",
        1.12,
        _against(FROZEN, kind="compiled", but=[DEAREST]),
    ),
    Target(
        f"{_DEAR}, compiled, against compiled and frozen",
        1.20,
        _against(FROZEN, kind="compiled", only=[DEAREST]),
    ),
    Target("32 streams x 1 image, against 1 stream x 32 images", 1.15, _against_one(MANY)),
    Target("32 streams x 1 image, strategies mixed, against 32 images with `adabn`", 1.15, _mixed("adabn")),
    Target("32 streams x 1 image, strategies mixed, against the mean of 32 images with each", 1.15, _mixed(None)),
    Target("32 queued requests of 1 stream, against 1 request of 32", 1.30, _against_one(QUEUED)),
    Target("ResNet-20, batch 1, against plain eval", 1.40, _against(PLAIN, model="resnet20", batches=[1])),
    Target(
        "ResNet-20, batch 1, compiled, against plain eval",
        1.15,
        _against(PLAIN, kind="compiled", model="resnet20", batches=[1]),
    ),
    Target("memory of `adabn` streams, against the exact size of their states", 1.05, _memory),
]
