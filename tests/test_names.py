"""Names are nouns, verbs and predicates that can be looked up; docstrings begin with what a thing is or does."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("adapters", "app", "benchmarks")

WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        told asked said shown given taken found made known held kept ran wanted left seen used whole alone alike
        together who which what how why where when one other others mine theirs ours own each every most least few
        many more rest both there here now then after before beside behind ahead around apart gone begun fresh
        ordinary same different
        """,
    )
)
"""Participles, pronouns, question words and adverbs that say nothing of a thing by themselves."""
QUESTIONS = frozenset({"What", "Who", "Which", "Whether", "Whose", "How", "Where"})

SHARED_CLASS_NAMES = {"Answer", "Guard", "ImagePrediction"}
"""Names of two classes that mean one thing: public on both sides, or its form at two doors."""

ODD, QUESTIONING = 12, 0
"""How many names are such words, and how many docstrings begin with a question word. They may only become fewer."""


def odd_names(source: str) -> Iterator[str]:
    """The bound names, arguments and functions of a source that are one of the `WORDS`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                pass
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case _:
                continue
        if name.strip("_") in WORDS:
            yield name


def questioning_docstrings(source: str) -> Iterator[str]:
    """The first lines of docstrings that begin with a question word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or "."
            if text.split(None, 1)[0].rstrip(",:") in QUESTIONS:
                yield text.splitlines()[0]


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_name_is_a_bare_participle_or_pronoun() -> None:
    odd = Counter({path: len(list(odd_names(path.read_text("utf-8")))) for path in sources()})
    assert odd.total() <= ODD, [(str(path.relative_to(ROOT)), count) for path, count in odd.most_common(5)]


def test_a_class_name_has_one_meaning() -> None:
    trees = [ast.parse(path.read_text("utf-8")) for path in sources()]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == SHARED_CLASS_NAMES


def test_no_docstring_begins_with_a_question_word() -> None:
    questions = Counter({path: len(list(questioning_docstrings(path.read_text("utf-8")))) for path in sources()})
    assert questions.total() <= QUESTIONING, [(str(p.relative_to(ROOT)), n) for p, n in questions.most_common(5)]


@pytest.mark.parametrize(
    "source",
    ["found = 1", "def _told(): pass", "async def f(where): pass", "for one in x: pass", "f = lambda given: 1"],
    ids=["variable", "function", "argument", "loop", "lambda"],
)
def test_a_single_odd_name_is_seen(source: str) -> None:
    assert len(list(odd_names(source))) == 1


def test_names_with_a_noun_and_uses_of_words_are_fine() -> None:
    assert not list(odd_names("found_images = x.where(one)\ndef told_stream(given_name): return kept"))


def test_a_questioning_docstring_is_seen() -> None:
    assert list(questioning_docstrings('def f():\n    """Whether it is so."""')) == ["Whether it is so."]
    assert not list(questioning_docstrings('def f():\n    """Tell whether it is so."""'))


RIDDLES = "what who whoever whatever whose which how where when it they that this nobody nothing something so"


def test_names_of_tests_say_of_what_they_state_a_property() -> None:
    begins = re.compile(rf"test_({'|'.join(RIDDLES.split())})_")
    found = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and begins.match(node.name)
    }
    assert found == set()
