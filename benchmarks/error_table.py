"""What a run of shifted streams found, as a table: one row per corruption, one column per strategy."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CLEAN = "clean"


@dataclass(frozen=True)
class Choice:
    """A strategy with the hyperparameters that it is asked with."""

    strategy: str
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How the table names it: ``alpha_bn prior=16``."""
        return " ".join([self.strategy, *(f"{name}={json.dumps(value)}" for name, value in self.params.items())])


def parse_choice(text: str) -> Choice:
    """A strategy as written on the command line: ``adabn``, ``alpha_bn:{"prior": 16}`` or ``alpha_bn={"prior": 16}``.

    Raises:
        ValueError: there is no name, or what follows it is not a JSON object.
    """
    found = re.fullmatch(r"(\w+)(?:[:=](.*))?", text, re.DOTALL)
    if found is None:
        raise ValueError(f'{text!r} is not a strategy: expected NAME or NAME:{{"parameter": value}}')
    try:
        params = json.loads(found[2]) if found[2] else {}
    except ValueError as error:
        raise ValueError(f"the parameters of {found[1]} are not JSON: {error}") from error
    if not isinstance(params, dict):
        raise ValueError(f'the parameters of {found[1]} must be a JSON object such as {{"prior": 16}}, not {found[2]}')
    return Choice(found[1], params)


class Score(NamedTuple):
    """One stream: how many images it had, how many were answered wrongly, and the seconds that answering took."""

    images: int
    wrong: int
    seconds: float

    @property
    def error(self) -> float:
        """Percent of images answered wrongly."""
        return 100 * self.wrong / self.images


Scores = dict[tuple[str, str], Score]
"""By corruption and by label of the strategy."""


def rows(corruptions: Sequence[str], labels: Sequence[str], scores: Scores) -> list[list[str]]:
    """The table as text: a head, a row per corruption, their mean, the difference to source, images per second.

    Clean images are no corruption: they stand below and are left out of the mean. Streams that are missing from
    ``scores`` show as a dash, and so does a mean that would need them.
    """
    shifted = [name for name in corruptions if name != CLEAN]
    table = [["error %", *labels]]
    table += [[name, *(_error(scores.get((name, label))) for label in labels)] for name in shifted]
    if shifted:
        means = {label: _mean(shifted, label, scores) for label in labels}
        table.append([f"mean of {len(shifted)}", *(_percent(means[label]) for label in labels)])
        source = means.get("source")
        if source is not None:
            table.append(["against source", *(_difference(means[label], source) for label in labels)])
    table += [[name, *(_error(scores.get((name, label))) for label in labels)] for name in corruptions if name == CLEAN]
    table.append(["images/s", *(_speed(label, scores) for label in labels)])
    return table


def markdown(table: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, numbers to the right."""
    head, *body = table
    rule = ["---", *("---:" for _ in head[1:])]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (head, rule, *body))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def comma_separated(table: Sequence[Sequence[str]]) -> str:
    """The table as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()


def _mean(corruptions: Sequence[str], label: str, scores: Scores) -> float | None:
    """The mean of the errors: every corruption weighs the same, whatever its number of images."""
    found = [scores[name, label].error for name in corruptions if (name, label) in scores]
    return sum(found) / len(found) if len(found) == len(corruptions) else None


def _speed(label: str, scores: Scores) -> str:
    own = [score for (_, name), score in scores.items() if name == label]
    seconds = sum(score.seconds for score in own)
    return f"{sum(score.images for score in own) / seconds:.0f}" if seconds > 0 else "-"


def _error(score: Score | None) -> str:
    return _percent(None if score is None else score.error)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _difference(value: float | None, source: float) -> str:
    return "-" if value is None else f"{value - source:+.2f}"
