"""Errors for folders that do not match exactly one class of the model, with names and a way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from app.evaluation.errors import DataError
from app.evaluation.labels.spellings import fold, split_id
from app.models.labels import ClassNames

MAX_NAMES = 5
"""Names of each kind that a message shows."""


def quote(names: Sequence[str]) -> str:
    """Format the first few names, quoted, and the number of further ones."""
    remaining = len(names) - MAX_NAMES
    return ", ".join(map(repr, names[:MAX_NAMES])) + (f" and {remaining:,} more" if remaining > 0 else "")


def are_placeholders(names: Sequence[str]) -> bool:
    """True if all names are placeholders: ``class 0``, ``LABEL_0``."""
    return all(re.fullmatch(r"(class|label)[ _-]?\d+", name, re.IGNORECASE) for name in names)


def refuse_unknown(folders: Sequence[str], classes: ClassNames, *, all_unknown: bool) -> NoReturn:
    """Raise for folders that are no class of the model; ``all_unknown`` is true if no folder matches.

    Raises:
        DataError: always.
    """
    is_single = len(folders) == 1
    text = f"the folder {folders[0]!r} is not a class" if is_single else f"the folders {quote(folders)} are not classes"
    ways = ["name folders as the model names its classes, or by their numbers from 0"]
    if are_placeholders(classes.names):
        ways = [f"the model has no names: give --labels FILE, or name folders 0 to {len(classes.names) - 1}"]
    elif close := _close(folders, classes.names):
        ways.insert(0, close)
    if not classes.ids and all(map(split_id, folders)):
        ways.append("for WordNet's ids give --labels that has them, such as class_index.json")
    if not all_unknown:
        ways.append(f"--skip-unknown leaves {'it' if is_single else 'them'} out")
    class_list = f"{len(classes.names):,} classes: {quote(classes.names)}"
    raise DataError(f"{text} of the model, which has {class_list}", hint="; ".join(ways))


def refuse_unclear(hits: Mapping[str, Sequence[int]], names: Sequence[str]) -> None:
    """Raise where a folder matches several classes.

    Raises:
        DataError: there is such a folder.
    """
    for folder, numbers in hits.items():
        candidates = ", ".join(f"{number} ({names[number]!r})" for number in numbers[:MAX_NAMES])
        further = f"; {len(hits) - 1} more folders are ambiguous" if len(hits) > 1 else ""
        raise DataError(
            f"the folder {folder!r} is ambiguous: it matches the classes {candidates} of the model{further}",
            hint="name it exactly as the model names one of them, or name all folders by number from 0",
        )


def refuse_shared(numbers: Mapping[str, int], names: Sequence[str]) -> None:
    """Raise where two folders match the same class.

    Raises:
        DataError: there are such folders.
    """
    first: dict[int, str] = {}
    for folder, number in numbers.items():
        if number in first:
            raise DataError(
                f"the folders {first[number]!r} and {folder!r} are the same class of the model, {number} "
                f"({names[number]!r})",
                hint="merge the two folders, or remove one",
            )
        first[number] = folder


def _close(folders: Sequence[str], names: Sequence[str]) -> str:
    names_by_spelling = {fold(name): name for name in names}
    for folder in folders[:MAX_NAMES]:
        matches = difflib.get_close_matches(fold(folder), names_by_spelling, n=1, cutoff=0.8)
        if matches:
            return f"did you mean {names_by_spelling[matches[0]]!r} by {folder!r}?"
    return ""
