"""From names to strategies and back: ``unmix_tns+tent+lame``, and the hyperparameters of each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from adapters.base import AnyAdapter
from adapters.composite import Composite, Strategy, composed, whole
from adapters.errors import ParameterError, UnknownStrategyError
from adapters.params import build, schema
from adapters.registry import METHODS, STRATEGIES, kind_of

ORDER = tuple(METHODS)
"""Of the parts in a name: what normalizes, what learns, what corrects."""
_MANY = {
    "adapter": "both normalize, and a strategy normalizes once: name one of them",
    "learner": "both learn the same affine parameters: name one of them",
}


def strategy(name: str, params: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy of that name with the given hyperparameters, the others at their defaults.

    A name is one of ``STRATEGIES``, or several joined by plus signs: at most one adapter, then at most one learner,
    then correctors in the order in which they refine. Without an adapter it is the one that the learner, or else the
    first corrector, goes with. A hyperparameter is addressed by its name, or by ``part.name`` where several parts have
    one of that name.

    Raises:
        UnknownStrategyError: a part is not registered; the message lists those that are.
        ParameterError: parts that cannot be combined, or a hyperparameter that is unknown, of the wrong type or out of
            range.
    """
    parts = parts_of(name)
    given = _dealt(name, parts, params or {})
    return composed([build(STRATEGIES[part], part, given[part]) for part in parts])


def adapter(name: str, params: Mapping[str, Any] | None = None) -> AnyAdapter:
    """The adapter of that name, by itself.

    Raises:
        UnknownStrategyError, ParameterError: see `strategy`; also for a name of more than an adapter.
    """
    found = strategy(name, params)
    if isinstance(found, Composite):
        raise ParameterError(f"'{name}' is more than an adapter: it has the parts {', '.join(parts_of(name))}")
    return found


def parts_of(name: str) -> list[str]:
    """The parts of the strategy of that name, its adapter first even where the name leaves it out.

    Raises:
        UnknownStrategyError, ParameterError: see `strategy`.
    """
    # In an address a plus sign stands for a space, unless the client has written it as %2B.
    return _complete(name, name.replace(" ", "+").split("+"))


def name_of(strategy: Strategy) -> str:
    """The name of a strategy: its parts' names, or those of their classes where these are not registered.

    The adapter is left out where it is the one that the rest goes with.
    """
    adapter, *others = [_name(part) for part in whole(strategy)]
    _, *parts = whole(strategy)
    return "+".join(others if parts and adapter == _goes_with(parts[0]) else [adapter, *others])


def params_of(strategy: Strategy) -> dict[str, Any]:
    """All hyperparameters of a strategy: by name for an adapter by itself, else by ``part.name``."""
    if not isinstance(strategy, Composite):
        return asdict(strategy)  # type: ignore[call-overload,no-any-return]
    return {f"{_name(part)}.{key}": value for part in strategy for key, value in asdict(part).items()}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the hyperparameters of the strategy of that name.

    Raises:
        UnknownStrategyError, ParameterError: see `strategy`.
    """
    parts = parts_of(name)
    if len(parts) == 1:
        return schema(STRATEGIES[parts[0]])
    each = {part: schema(STRATEGIES[part])["properties"] for part in parts}
    properties = {f"{part}.{key}": rules for part, known in each.items() for key, rules in known.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _complete(name: str, parts: list[str]) -> list[str]:
    """The parts in order, with an adapter."""
    for part in parts:
        if part not in STRATEGIES:
            which = f"'{part}' in '{name}'" if len(parts) > 1 else f"'{part}'"
            raise UnknownStrategyError(
                f"unknown strategy {which}: choose one of {', '.join(STRATEGIES)}, or several joined by '+'"
            )
    kinds = [kind_of(STRATEGIES[part]) for part in parts]
    for kind, reason in _MANY.items():
        same = [part for part, found in zip(parts, kinds, strict=True) if found == kind]
        if len(same) > 1:
            raise ParameterError(f"'{name}' cannot be: {same[0]} and {same[1]} {reason}")
    if len(set(parts)) < len(parts):
        raise ParameterError(f"'{name}' cannot be: it names the same corrector twice; leave one out")
    # Stable: correctors keep the order in which they were named, which means something.
    ordered = sorted(parts, key=lambda part: ORDER.index(kind_of(STRATEGIES[part])))
    return ordered if "adapter" in kinds else [_goes_with(STRATEGIES[ordered[0]]), *ordered]


def _dealt(name: str, parts: Sequence[str], params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Hyperparameters by part."""
    given: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for key, value in params.items():
        part, _, field = key.rpartition(".")
        owners = [part] if part else [one for one in parts if field in _fields(one)] or parts[:1]
        if part and part not in parts:
            raise ParameterError(f"strategy '{name}' has no part '{part}' for the parameter {key!r}: {_offer(parts)}")
        if len(parts) > 1 and field not in _fields(owners[0]):
            raise ParameterError(f"strategy '{name}' has no parameter {key!r}: {_offer(parts)}")
        if len(owners) > 1:
            choices = " or ".join(f"{one}.{field}" for one in owners)
            raise ParameterError(f"strategy '{name}' has several parameters {key!r}: write {choices}")
        if field in given[owners[0]]:
            raise ParameterError(f"strategy '{name}' was given {owners[0]}.{field} twice: leave one out")
        given[owners[0]][field] = value
    return given


def _offer(parts: Sequence[str]) -> str:
    known = [f"{part}.{field}" for part in parts for field in _fields(part)]
    return f"it takes {', '.join(known)}" if known else "it takes none"


def _fields(part: str) -> list[str]:
    return [field.name for field in fields(STRATEGIES[part])]


def _goes_with(part: Any) -> str:
    return str(getattr(part, "adapter", "source"))


def _name(part: Any) -> str:
    return next((name for name, cls in STRATEGIES.items() if cls is type(part)), type(part).__name__)
