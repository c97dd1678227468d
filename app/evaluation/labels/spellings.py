"""Spellings of class names, normalized so that equal names compare equal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

_WORD_NET = re.compile(r"(n\d{8})(?:[\s_.,:-]+(.+))?", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)[\s_.:-]+(.*[^\W\d].*)")
# Also characters that file names cannot hold and people replace.
_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_/\\:|\-\u2010-\u2015]+(?=\w)|_+")
_MARKS = re.compile(r"['’`´]|(?<!\d)\.|\.(?!\d)")  # as in "carpenter's" and "St. Bernard"
_GAP = re.compile(r"(?<!\d) | (?!\d)")


class Prefixed(NamedTuple):
    """A name with a prefix: WordNet's id, or a number. ``name`` is empty where there is none."""

    prefix: str
    name: str


def split_id(text: str) -> Prefixed | None:
    """``n02099601 golden retriever`` in its two parts; None where no id of WordNet begins it."""
    match = _WORD_NET.fullmatch(text.strip())
    return Prefixed(match[1].lower(), (match[2] or "").strip()) if match else None


def split_number(text: str) -> Prefixed | None:
    """``03_cat`` in its two parts; None where no number stands before a name."""
    match = _NUMBERED.fullmatch(text.strip())
    return Prefixed(match[1], match[2].strip()) if match else None


def is_number(text: str) -> bool:
    """True if the text is digits and nothing else."""
    return text.isascii() and text.isdecimal()


def synonyms(text: str) -> list[str]:
    """``tench, Tinca tinca`` in its parts; one part where there is no comma."""
    return [part.strip() for part in text.split(",") if part.strip()]


def fold(text: str) -> str:
    """Fold case, and write one space for what separates words: spaces, underscores, hyphens, slashes, colons."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_BETWEEN_WORDS.sub(" ", folded.strip(" _\t")).split())


def squeeze(text: str) -> str:
    """Like `fold`, and without the spaces between words, apostrophes and full stops: ``GoldenRetriever``.

    A space between two digits stays, so that ``item 1 2`` is not ``item 12``.
    """
    return _GAP.sub("", fold(_MARKS.sub("", text)))


def common_offset(pairs: Iterable[tuple[int, int]]) -> int | None:
    """The offset of numbers before names from the numbers of their classes: 0 or 1 if all agree, else None."""
    offsets = {number - class_number for number, class_number in pairs}
    return offsets.pop() if len(offsets) == 1 and offsets <= {0, 1} else None
