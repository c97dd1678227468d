"""Published errors on CIFAR-10-C beside those that were measured here, where setting and method are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from app.evaluation.metrics import SOURCE, Figures, Place, summarize
from app.evaluation.report.tables import MISSING, code, markdown, number
from benchmarks.results.plan import PUBLISHED_LAME


class Setting(NamedTuple):
    """A published table, and the place here that is most like it. ``errors`` are in percent, by strategy."""

    title: str
    network: str
    source: str  # where the figures are published
    place: Place
    differs: str  # beside the network
    errors: dict[str, float]
    foreign_errors: Mapping[str, float] = MappingProxyType({})  # methods that are not built here


_MARIO = "[benchmark.md of mariodoebler/test-time-adaptation](https://github.com/mariodoebler/test-time-adaptation)"
_NOTE = "[README of NOTE](https://github.com/TaesikGong/NOTE) (Gong et al. 2022)"

SETTINGS: Sequence[Setting] = (
    Setting(
        "one corruption after another, shuffled",
        "WRN-28-10",
        _MARIO,
        Place("continual", "iid", 64),
        "requests of 200, 10,000 images of each corruption, 5 seeds",
        {SOURCE: 43.5, "bn": 20.4, "tent": 20.0, "rotta": 19.3, PUBLISHED_LAME: 64.3},
        {"CoTTA": 16.5, "EATA": 17.9, "ROID": 16.2},
    ),
    Setting(
        "all corruptions mixed, shuffled",
        "WRN-28-10",
        _MARIO,
        Place("mixed", "iid", 64),
        "requests of 200, 10,000 images of each corruption, 5 seeds",
        {SOURCE: 43.5, "bn": 33.8, "tent": 44.1, "rotta": 33.4, PUBLISHED_LAME: 75.2},
        {"CoTTA": 32.5, "EATA": 28.6, "ROID": 28.0},
    ),
    Setting(
        "each corruption alone, shuffled",
        "WRN-28-10",
        "[README of Tent](https://github.com/DequanWang/tent) (Wang et al. 2021)",
        Place("single", "iid", 64),
        "requests of 200, 10,000 images of each corruption",
        {SOURCE: 43.5, "bn": 20.4, "tent": 18.6},
    ),
    Setting(
        "each corruption alone, shuffled",
        "ResNet-18",
        _NOTE,
        Place("single", "iid", 64),
        "10,000 images of each corruption",
        {SOURCE: 42.3, "bn": 21.6, "tent": 18.8, PUBLISHED_LAME: 44.1},
        {"CoTTA": 17.8, "NOTE": 20.1},
    ),
    Setting(
        "each corruption alone, correlated classes",
        "ResNet-18",
        _NOTE,
        Place("single", "dirichlet:0.1", 64),
        "10,000 images of each corruption, so stretches of a class are ten times as long",
        {SOURCE: 42.3, "bn": 73.4, "tent": 76.4, PUBLISHED_LAME: 36.2},
        {"CoTTA": 75.5, "NOTE": 21.1},
    ),
    Setting(
        "practical test-time adaptation (`ptta`)",
        "WRN-28-10",
        "[RoTTA](https://arxiv.org/abs/2303.13899) (Yuan et al. 2023); from notes, not checked against the paper",
        Place("continual", "ptta", 64),
        "10,000 images of each corruption, in another order of the corruptions",
        {SOURCE: 43.5, "bn": 75.2, "tent": 86.0, PUBLISHED_LAME: 39.5, "rotta": 25.2},
        {"CoTTA": 83.2, "NOTE": 31.1},
    ),
    Setting(
        "all corruptions mixed, correlated classes",
        "not told",
        "the discussion of FreDA on OpenReview",
        Place("mixed", "dirichlet:0.1", 64),
        "all else is not told either",
        {"unmix_tns": 41.9},
        {"FreDA": 23.0},
    ),
)

NOWHERE = """\
No published error on CIFAR-10-C was found for these, or none in a setting that is measured here: `alpha_bn` (its paper
reports segmentation; benchmarks choose the weight by request size), `core` (no official code), `adabn` following a
stream (four different algorithms share the name), `robust_bn` alone, `iabn` in a network that was not trained with it,
`tema`, `cofa`, the tables of the paper of `unmix_tns`, and combinations such as `adabn+lame`, which are Renorm's own.
"""


def section_of(figures: Sequence[Figures]) -> str:
    """One table for all settings, and what it lacks."""
    measured = {(summary.strategy, summary.place): summary.error for summary in summarize(figures)}
    head = ["setting", "method", "published", "relative to its source", "here", "relative to our source"]
    rows = []
    for setting in SETTINGS:
        frozen = measured.get((SOURCE, setting.place))
        for strategy, error in setting.errors.items():
            measured_error = measured.get((strategy, setting.place))
            share = number(error / setting.errors[SOURCE], 2) if SOURCE in setting.errors else MISSING
            cell = MISSING if measured_error is None else number(measured_error)
            against = MISSING if measured_error is None or frozen is None else number(measured_error / frozen, 2)
            rows.append([_name(setting), code(strategy), number(error), share, cell, against])
    return "\n".join([_TOP, markdown(head, rows, text_columns=2), _differences(), NOWHERE])


_TOP = """\
Errors in percent at severity 5. The published networks are larger than the bundled ResNet-20 of 0.27 million weights
(WRN-28-10 has 36 million, ResNet-18 has 11), so compare the columns that divide the error by the error of the frozen
network in the same setting. A dash was not run.
"""


def _name(setting: Setting) -> str:
    return f"{setting.title} ({setting.network})"


def _differences() -> str:
    lines = []
    for setting in SETTINGS:
        methods = ", ".join(f"{name} {number(error)}" for name, error in setting.foreign_errors.items())
        remark = f" Methods that Renorm does not have: {methods}." if methods else ""
        lines.append(
            f"- *{_name(setting)}*: {setting.source}; there {setting.differs}. Here: {setting.place}.{remark}\n"
        )
    return "".join(lines)
