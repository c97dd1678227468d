"""Examples in docstrings of the library do what they show, with torch and all that `adapters` exports at hand."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import adapters

MODULES = [module.name for module in pkgutil.walk_packages(adapters.__path__, "adapters.")]
NAMES = {"torch": torch, **{name: getattr(adapters, name) for name in adapters.__all__}}

EXEMPT = {
    "Adapter": "the contract of plugins: docs/plugin.md shows one, and tests run it",
    "Corrector": "the same",
    "Learner": "the same",
    "Network": "a protocol that the library implements: a learner is given one",
    "Lesson": "a record that the library fills: a learner is given one",
}
"""Classes without an example, and why."""
CLASSES = sorted(
    name
    for name in set(adapters.__all__) - set(EXEMPT)
    if inspect.isclass(cls := getattr(adapters, name)) and not issubclass(cls, Exception)
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_give_what_they_show(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), extraglobs=NAMES).failed == 0


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_has_an_example(name: str) -> None:
    cls, parser = getattr(adapters, name), doctest.DocTestParser()
    # Those of strategies stand at the head of the module: the server gives the class's docstring to users of HTTP.
    above = parser.get_examples(importlib.import_module(cls.__module__).__doc__ or "")
    has_example = parser.get_examples(cls.__doc__ or "") or any(f"{name}(" in example.source for example in above)
    assert has_example, f"neither the docstring of {name} nor that of its module has an example"


def test_an_exempt_class_is_a_public_class() -> None:
    assert all(inspect.isclass(getattr(adapters, name)) for name in EXEMPT)
