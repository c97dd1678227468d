"""Matching of folder names to the classes of a model: by name as people write it, never by guessing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from app.evaluation.errors import DataError
from app.evaluation.labels.spellings import common_offset, fold, is_number, split_id, split_number, squeeze, synonyms
from app.evaluation.labels.unmatched import refuse_shared, refuse_unclear, refuse_unknown
from app.models.labels import ClassNames

_IMAGENET = 1000, "n01440764", "n15075141"
"""Classes of ImageNet-1k, which are numbered in the order of their WordNet ids, with the first and the last of them."""

Hits = frozenset[int]
_NONE: Hits = frozenset()


class Matching(NamedTuple):
    """The class number of each folder, by name, without those that are left out."""

    numbers: dict[str, int]
    left_out: tuple[str, ...]


def match_folders(folders: Sequence[str], classes: ClassNames, *, skip_unknown: bool = False) -> Matching:
    """Find the class of each folder.

    The first rule that matches counts: the name as the model has it; WordNet's id, alone or before the name, where
    the labels have ids; the name, or one of its synonyms between commas, without regard to case, spaces, underscores
    and hyphens; the same without spaces, apostrophes and full stops. Folders of digits are numbers of classes from
    0, unless names of classes are numbers themselves or other folders have names. A number before a name is an order
    if it is that of the class, or one more, in all folders. All 1000 of ImageNet's ids are the numbers 0 to 999.

    Raises:
        DataError: a folder is no class of the model (unless ``skip_unknown``), is ambiguous, or two are the same class.
    """
    hits = _imagenet(folders, classes) or _hits(folders, classes)
    refuse_unclear({folder: sorted(numbers) for folder, numbers in hits.items() if len(numbers) > 1}, classes.names)
    unknown = tuple(folder for folder in folders if not hits[folder])
    _check_count_from_zero(folders, unknown, classes)
    if unknown and (not skip_unknown or len(unknown) == len(folders)):
        refuse_unknown(unknown, classes, all_unknown=len(unknown) == len(folders))
    numbers = {folder: next(iter(numbers)) for folder, numbers in hits.items() if numbers}
    refuse_shared(numbers, classes.names)
    return Matching(numbers, unknown)


def _imagenet(folders: Sequence[str], classes: ClassNames) -> dict[str, Hits]:
    """Match all 1000 classes of ImageNet by the order of their ids; empty for other folders."""
    count, first, last = _IMAGENET
    if not len(folders) == len(classes.names) == count or classes.ids:
        return {}
    ids = {parts.prefix: folder for folder in folders if (parts := split_id(folder))}
    if len(ids) < count or min(ids) != first or max(ids) != last or any(map(split_id, classes.names)):
        return {}
    return {ids[word_net_id]: frozenset([number]) for number, word_net_id in enumerate(sorted(ids))}


def _hits(folders: Sequence[str], classes: ClassNames) -> dict[str, Hits]:
    book = _ClassIndex(classes)
    matches = {folder: book.find(folder) for folder in folders if not is_number(folder)}
    matches |= _behind_numbers([folder for folder, hits in matches.items() if not hits], book)
    digits = [folder for folder in folders if is_number(folder)]
    return matches | _of_digits(digits, classes.names, indices=not any(matches.values()))


def _behind_numbers(folders: Iterable[str], book: _ClassIndex) -> dict[str, Hits]:
    """Folders like ``03_cat``: matched as a group, so that a number with another meaning is noticed."""
    named = {folder: (int(part.prefix), book.find(part.name)) for folder in folders if (part := split_number(folder))}
    sure = {folder: (number, hits) for folder, (number, hits) in named.items() if len(hits) == 1}
    if common_offset((number, next(iter(hits))) for number, hits in sure.values()) is None:
        return {}
    return {folder: hits for folder, (_, hits) in sure.items()}


def _of_digits(folders: Iterable[str], names: Sequence[str], *, indices: bool) -> dict[str, Hits]:
    """Match by names that are the same number, and by the class of that number where numbers are ``indices``."""
    times = Counter(names)
    exact = {name: frozenset([i]) for i, name in enumerate(names) if times[name] == 1 and is_number(name)}
    by_value: dict[int, set[int]] = {}
    for i, name in enumerate(names):
        if is_number(name):
            by_value.setdefault(int(name), set()).add(i)
    counted = indices and not all(map(is_number, names))

    def hits(folder: str) -> Hits:
        number = int(folder)
        equal = frozenset(by_value.get(number, ()))
        return equal | {number} if counted and number < len(names) else exact.get(folder, equal)

    return {folder: hits(folder) for folder in folders}


def _check_count_from_zero(folders: Sequence[str], unknown: Sequence[str], classes: ClassNames) -> None:
    """Refuse numbers 1 to K: each would mean the class before, and only K would be noticed."""
    numbers = {int(folder) for folder in folders if is_number(folder)}
    count = len(classes.names)
    if 0 not in numbers and count in numbers and any(is_number(name) and int(name) == count for name in unknown):
        raise DataError(
            f"the folders are numbered from 1 to {count}, but the model's {count} classes from 0 to {count - 1}",
            hint=f"number them from 0 (0 is {classes.names[0]!r}), or give them the names of the classes",
        )


class _ClassIndex:
    """An index of the classes by every spelling of their names."""

    def __init__(self, classes: ClassNames) -> None:
        names = classes.names
        prefixed = [split_id(name) for name in names]
        ids = classes.ids or tuple(part.prefix if part else "" for part in prefixed)
        bare = [part.name or name if part else name for part, name in zip(prefixed, names, strict=True)]
        bare = _without_numbers(bare)
        self._ids = _by({i: [word_net_id.lower()] for i, word_net_id in enumerate(ids) if word_net_id}, str)
        full_names = {i: [name] for i, name in enumerate(names)}
        # Synonyms count as much as names in another spelling: "Missile" may be "missile" or "projectile, missile".
        spellings = {i: [names[i], name, *synonyms(name)] for i, name in enumerate(bare)}
        self._exact = _by(full_names, str)
        self._tiers: list[tuple[Callable[[str], str], Mapping[str, Hits]]] = [
            (str, self._exact),
            (fold, _by(spellings, fold)),
            (squeeze, _by(spellings, squeeze)),
        ]

    def find(self, folder: str) -> Hits:
        """Return the classes that a folder may be; empty where it is unknown."""
        if matches := self._exact.get(folder, _NONE):
            return matches
        parts = split_id(folder)
        return self._by_id(parts.prefix, parts.name) if parts else self._named(folder)

    def _by_id(self, word_net_id: str, name: str) -> Hits:
        """Match by id, which decides between classes of the same name; a name of another class is a conflict."""
        if not self._ids:
            return self._named(name) if name else _NONE
        matches = self._ids.get(word_net_id, _NONE)
        if not matches or not name:
            return matches
        # Of all classes with the name, in whatever spelling, the id decides.
        namesakes = self._named(name).union(*(index.get(spell(name), _NONE) for spell, index in self._tiers))
        return matches if matches & namesakes or not namesakes else matches | namesakes

    def _named(self, name: str) -> Hits:
        for spell, index in self._tiers:
            if matches := index.get(spell(name), _NONE):
                return matches
        first, *further = synonyms(name) or [name]
        if not further:
            return _NONE
        # The first is the name; a synonym that is another class makes it ambiguous.
        matches = self._named(first)
        return matches.union(*(self._named(part) for part in further)) if matches else _NONE


def _without_numbers(names: Sequence[str]) -> list[str]:
    """Strip the number before each name, where all names have one."""
    parts = [split_number(name) for name in names]
    pairs = [(int(part.prefix), i) for i, part in enumerate(parts) if part]
    if len(pairs) < len(names) or common_offset(pairs) is None:
        return list(names)
    return [part.name for part in parts if part]


def _by(texts_by_number: Mapping[int, Iterable[str]], spell: Callable[[str], str]) -> dict[str, Hits]:
    numbers_by_text: dict[str, set[int]] = {}
    for number, texts in texts_by_number.items():
        for text in texts:
            numbers_by_text.setdefault(spell(text), set()).add(number)
    numbers_by_text.pop("", None)  # of names that are nothing but marks
    return {text: frozenset(numbers) for text, numbers in numbers_by_text.items()}
