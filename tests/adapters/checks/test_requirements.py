"""Each battery of checks takes one kind of part, and says which battery is meant for a part of another."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import AdaBN, Composite, Lame, Tent
from adapters.checks import adapter, check_adapter, check_corrector, check_learner, corrector, learner

PARTS: dict[Any, Any] = {check_adapter: AdaBN(), check_corrector: Lame(), check_learner: Tent()}


@pytest.mark.parametrize(("check", "other"), [(check, other) for check in PARTS for other in PARTS if check != other])
def test_a_part_of_another_kind_is_pointed_to_its_own_checks(check: Any, other: Any) -> None:
    with pytest.raises(AssertionError, match=f"is not a valid .*: use {other.__name__}$"):
        check(PARTS[other])


@pytest.mark.parametrize("check", PARTS)
@pytest.mark.parametrize(
    ("part", "words"),
    [
        (AdaBN, r"it is a class: pass an instance, AdaBN\(\)"),
        ("adabn", r"it is a name: pass adapters.strategy\('adabn'\)"),
        (Composite(AdaBN()), "it must subclass adapters"),
        (None, "it must subclass adapters"),
    ],
    ids=["class", "name", "composite", "nothing"],
)
def test_an_argument_that_is_no_part_is_refused_before_any_check(check: Any, part: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=f"is not a valid .*: {words}"):
        check(part)


@pytest.mark.parametrize("module", [adapter, corrector, learner])
def test_the_docstring_is_checked_last(module: Any) -> None:
    assert list(module.CHECKS)[-1] == "docstring"
