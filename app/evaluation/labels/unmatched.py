"""Refusals of folders that are not each one class of the model, with names and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from app.evaluation.errors import DataError
from app.evaluation.labels.spellings import loose, word_net
from app.models.labels import ClassNames

MOST = 5
"""Names of each kind that a message shows."""


def listed(names: Sequence[str]) -> str:
    """The first few, quoted, and how many more there are."""
    remaining = len(names) - MOST
    return ", ".join(map(repr, names[:MOST])) + (f" and {remaining:,} more" if remaining > 0 else "")


def nameless(names: Sequence[str]) -> bool:
    """Whether these are numbers in disguise: ``class 0``, ``LABEL_0``."""
    return all(re.fullmatch(r"(class|label)[ _-]?\d+", name, re.IGNORECASE) for name in names)


def refuse_unknown(folders: Sequence[str], classes: ClassNames, *, all_unknown: bool) -> NoReturn:
    """Raise for folders that are no class of the model; ``all_unknown`` says that none is one.

    Raises:
        DataError: always.
    """
    is_single = len(folders) == 1
    problem = f"the folder {folders[0]!r} is no class" if is_single else f"the folders {listed(folders)} are no classes"
    ways = ["name folders as the model names its classes, or by their numbers from 0"]
    if nameless(classes.names):
        ways = [f"the model has no names: give --labels FILE, or name folders 0 to {len(classes.names) - 1}"]
    elif close := _close(folders, classes.names):
        ways.insert(0, close)
    if not classes.ids and all(map(word_net, folders)):
        ways.append("for WordNet's ids give --labels that has them, such as class_index.json")
    if not all_unknown:
        ways.append(f"--skip-unknown leaves {'it' if is_single else 'them'} out")
    class_list = f"{len(classes.names):,} classes: {listed(classes.names)}"
    raise DataError(f"{problem} of the model, which has {class_list}", hint="; ".join(ways))


def refuse_unclear(hits: Mapping[str, Sequence[int]], names: Sequence[str]) -> None:
    """Raise where a folder may be several classes.

    Raises:
        DataError: there is such a folder.
    """
    for folder, numbers in hits.items():
        candidates = ", ".join(f"{number} ({names[number]!r})" for number in numbers[:MOST])
        further = f", and {len(hits) - 1} more are unclear" if len(hits) > 1 else ""
        raise DataError(
            f"the folder {folder!r} may be the classes {candidates} of the model{further}",
            hint="name it exactly as the model names one of them, or name all folders by number from 0",
        )


def refuse_shared(numbers: Mapping[str, int], names: Sequence[str]) -> None:
    """Raise where two folders are one class.

    Raises:
        DataError: there are such folders.
    """
    first: dict[int, str] = {}
    for folder, number in numbers.items():
        if number in first:
            raise DataError(
                f"the folders {first[number]!r} and {folder!r} are the same class of the model, {number} "
                f"({names[number]!r})",
                hint="put their pictures together, or take one away",
            )
        first[number] = folder


def _close(folders: Sequence[str], names: Sequence[str]) -> str:
    names_by_spelling = {loose(name): name for name in names}
    for folder in folders[:MOST]:
        matches = difflib.get_close_matches(loose(folder), names_by_spelling, n=1, cutoff=0.8)
        if matches:
            return f"did you mean {names_by_spelling[matches[0]]!r} by {folder!r}?"
    return ""
