"""Strategies as requests name them, each made once: checking hyperparameters costs more than a small answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from adapters import Strategy, name_of, params_of
from adapters import strategy as made

CACHED = 1024
"""Strategies that are kept: many more than a server's clients use, and few enough that nobody can fill the memory."""


class Named(NamedTuple):
    """A strategy, its name, and all its hyperparameters, which nobody may change."""

    strategy: Strategy
    name: str
    params: dict[str, Any]


def named(name: str, params: Mapping[str, Any]) -> Named:
    """The strategy of that name with these hyperparameters, the others at their defaults.

    Raises:
        adapters.UnknownStrategyError, adapters.ParameterError: see `adapters.strategy`.
    """
    try:
        # With types: 1, 1.0 and true are equal to Python, and not all of them are a number to a strategy.
        return _made(name, tuple((key, type(value), value) for key, value in params.items()))
    except TypeError:
        # A list or an object as a value, which the strategy itself is to judge.
        return described(made(name, params))


@lru_cache(CACHED)
def described(strategy: Strategy) -> Named:
    """What there is to tell of a strategy."""
    return Named(strategy, name_of(strategy), params_of(strategy))


@lru_cache(CACHED)
def _made(name: str, params: tuple[tuple[str, type, Any], ...]) -> Named:
    return described(made(name, {key: value for key, _, value in params}))
