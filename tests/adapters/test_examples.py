"""Examples in docstrings of the library do what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import adapters

MODULES = [module.name for module in pkgutil.walk_packages(adapters.__path__, "adapters.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_give_what_they_show(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_library_has_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(bool(test.examples) for test in tests) > 15
