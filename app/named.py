"""Strategies as requests name them, each made once: checking hyperparameters costs more than a small answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

from adapters import AnyAdapter, name_of, strategy

CACHED = 1024
"""Adapters that are kept: many more than a server's clients use, and few enough that nobody can fill the memory."""


class Named(NamedTuple):
    """An adapter, the name of its strategy, and all its hyperparameters, which nobody may change."""

    adapter: AnyAdapter
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
        return described(strategy(name, params))


@lru_cache(CACHED)
def described(adapter: AnyAdapter) -> Named:
    """What there is to tell of an adapter."""
    return Named(adapter, name_of(adapter), asdict(adapter))  # type: ignore[call-overload]


@lru_cache(CACHED)
def _made(name: str, params: tuple[tuple[str, type, Any], ...]) -> Named:
    return described(strategy(name, {key: value for key, _, value in params}))
