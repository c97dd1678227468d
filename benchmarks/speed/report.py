"""A run of `python -m benchmarks.speed` as tables: the targets first, then every time."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.common import markdown
from benchmarks.speed.cases import FOLDED, FROZEN, MANY, MIXED, ONE, PLAIN, QUEUED
from benchmarks.speed.results import CaseGroup, SpeedResults, of_kind
from benchmarks.speed.targets import TARGETS

Rows = list[list[str]]

EXPLAINED = """\
`make bench ARGS="--out docs"` (with further options) writes this page; `speed.json` next to it has every sample. The
cases of a table take turns, round after round, in one process; a ratio is the median of the ratios of rounds, a time
the median of the rounds. If a target covers several strategies or batch sizes, the worst one is shown. The weights of
ResNet-50 and EfficientNet-B0 are random.

- **plain eval**: `model.eval()` in the default memory format; **channels_last**: the same in channels_last.
- **folded channels_last**: every BatchNorm folded into the convolution before it by torch's own `fuse_conv_bn_eval`.
- **compiled and frozen**: the folded network under `torch.compile` with `freezing`, compiled for each batch size.
- **textbook**: the method as research code writes it, from its paper's formulas (`benchmarks/speed/textbook.py`).
- **strategies**: `AdaptiveModel.predict` with all its work; images are in the default memory format.
"""

MANY_EXPLAINED = """\
The same images as one request, as requests of one image of many streams, and as a queue of such requests of one stream,
which are processed in order. In the last row, the streams use the strategies in turn.
"""


def targets(results: SpeedResults) -> Rows:
    """One row per target: the worst ratio, the bound, whether it holds, and what was the worst."""
    rows = [["what", "measured", "target", "reached", "worst of"]]
    for target in TARGETS:
        figure, bound = target.worst(results), f"{'>=' if target.at_least else '<='} {target.limit:.2f}"
        if figure is None:
            rows.append([target.title, "-", bound, "not measured", ""])
        else:
            rows.append([target.title, f"{figure.value:.2f}", bound, _yes(target.reached(figure)), figure.of])
    return rows


def times(groups: Iterable[CaseGroup]) -> Rows:
    """One row per case, and for each group, which are those of one model and kind, its time and two ratios."""
    groups = list(groups)
    cases = dict.fromkeys(case for group in groups for case in [*group.seconds, *group.notes])
    rows = [["case"], *([case] for case in cases)]
    for group in groups:
        references = [name for name in (PLAIN, FOLDED, FROZEN) if name in group.seconds]
        rows[0] += [f"batch {group.batch}, ms", *(f"/ {name}" for name in references)]
        for row, case in zip(rows[1:], cases, strict=True):
            is_measured = case in group.seconds
            row.append(f"{group.milliseconds(case):.2f}" if is_measured else "-")
            row += [f"{group.ratio(case, name):.2f}" if is_measured else "-" for name in references]
    return rows


def streams_table(group: CaseGroup) -> Rows:
    """One row per strategy: one request, many streams, and one stream's queue of requests."""
    n = group.batch
    ratio = "ratio to the first"
    rows = [["strategy", f"1 request of {n}, ms", f"{n} streams, ms", ratio, f"{n} queued requests, ms", ratio]]
    for name in dict.fromkeys(case.partition(":")[0] for case in group.seconds if not case.startswith(MIXED)):
        row = [name, f"{group.milliseconds(f'{name}: {ONE}'):.2f}"]
        for label in (MANY, QUEUED):
            case = f"{name}: {label}"
            row += [f"{group.milliseconds(case):.2f}", f"{group.ratio(case, f'{name}: {ONE}'):.2f}"]
        rows.append(row)
    rows.append([MIXED, "-", f"{group.milliseconds(f'{MIXED}: {MANY}'):.2f}", "-", "-", "-"])
    return rows


def page(results: SpeedResults, picture: str) -> str:
    """The whole run as Markdown; ``picture`` is where the page finds it."""
    facts = "".join(f"- {name}: {value}\n" for name, value in results.machine.items())
    parts = ["# Speed of a forward with adaptation\n", facts, markdown(targets(results)), *_notes(results)]
    parts += [f"![Time of a forward relative to plain eval]({picture})\n", EXPLAINED]
    for kind, heading in (("eager", "eager"), ("compiled", "compiled")):
        models = dict.fromkeys((group.model, group.title, group.size) for group in of_kind(results.groups, kind))
        for model, title, size in models:
            model_groups = [group for group in of_kind(results.groups, kind) if group.model == model]
            parts += [f"## {title} at {size} px, {heading}\n", markdown(times(model_groups))]
    for group in of_kind(results.groups, "streams"):
        parts += [
            f"## {title_of(group)}: many requests in one forward\n",
            MANY_EXPLAINED,
            markdown(streams_table(group)),
        ]
    return "\n".join(parts)


def title_of(group: CaseGroup) -> str:
    """A model and its image size, for headings."""
    return f"{group.title} at {group.size} px"


def notes(results: SpeedResults) -> list[str]:
    """Why something was not measured, each reason once."""
    lines = [f"{name}: {reason}" for name, reason in results.notes.items()]
    for group in results.groups:
        lines += [f"{title_of(group)}, {name}: {reason}" for name, reason in group.notes.items()]
    return list(dict.fromkeys(lines))


def _notes(results: SpeedResults) -> list[str]:
    lines = "".join(f"- {note}\n" for note in notes(results))
    return [f"Not measured:\n\n{lines}"] if lines else []


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"
