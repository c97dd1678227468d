"""The ways in which people write the name of a class, and which of them mean the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

_WORD_NET = re.compile(r"(n\d{8})(?:[\s_.,:-]+(.+))?", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)[\s_.:-]+(.*[^\W\d].*)")
# Also what no name of a file can hold, and people write another sign for.
_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_/\\:|\-\u2010-\u2015]+(?=\w)|_+")
_MARKS = re.compile(r"['’`´]|(?<!\d)\.|\.(?!\d)")  # as in "carpenter's" and "St. Bernard"
_GAP = re.compile(r"(?<!\d) | (?!\d)")


class Prefixed(NamedTuple):
    """A name with something before it: WordNet's id, or a number. ``name`` is empty where there is none."""

    prefix: str
    name: str


def word_net(text: str) -> Prefixed | None:
    """``n02099601 golden retriever`` in its two parts; None where no id of WordNet begins it."""
    match = _WORD_NET.fullmatch(text.strip())
    return Prefixed(match[1].lower(), (match[2] or "").strip()) if match else None


def numbered(text: str) -> Prefixed | None:
    """``03_cat`` in its two parts; None where no number stands before a name."""
    match = _NUMBERED.fullmatch(text.strip())
    return Prefixed(match[1], match[2].strip()) if match else None


def is_number(text: str) -> bool:
    """Whether it is digits and nothing else."""
    return text.isascii() and text.isdecimal()


def synonyms(text: str) -> list[str]:
    """``tench, Tinca tinca`` in its parts; one part where there is no comma."""
    return [part.strip() for part in text.split(",") if part.strip()]


def loose(text: str) -> str:
    """Without case, and with one space for what separates words: spaces, underscores, hyphens, slashes, colons."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_BETWEEN_WORDS.sub(" ", folded.strip(" _\t")).split())


def tight(text: str) -> str:
    """Like `loose`, and without the spaces between words, apostrophes and full stops: ``GoldenRetriever``.

    A space between two digits stays, so that ``item 1 2`` is not ``item 12``.
    """
    return _GAP.sub("", loose(_MARKS.sub("", text)))


def common_offset(pairs: Iterable[tuple[int, int]]) -> int | None:
    """How far numbers before names are from the numbers of their classes: 0 or 1 for all alike, or None."""
    offsets = {number - class_number for number, class_number in pairs}
    return offsets.pop() if len(offsets) == 1 and offsets <= {0, 1} else None
