"""From names to strategies and back: ``unmix_tns+tent+lame``, and the hyperparameters of each part."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from adapters.base import AnyAdapter
from adapters.composite import Composite, Strategy, as_composite, from_parts
from adapters.errors import CombinationError, ParameterError, UnknownStrategyError
from adapters.params import build, schema
from adapters.registry import METHODS, STRATEGIES, kind_of

ORDER = tuple(METHODS)
"""Of the parts in a name: what normalizes, what learns, what corrects."""
# In an address a plus sign stands for a space, unless the client has written it as %2B.
_PLUS = re.compile(r" *\+ *| +")
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
        CombinationError: parts that cannot be combined.
        ParameterError: a hyperparameter that is unknown, given twice, of the wrong type or out of range.
    """
    parts = parts_of(name)
    given = _dealt(name, parts, params or {})
    return from_parts([_built(part, given[part], alone=len(parts) == 1) for part in parts])


def adapter(name: str, params: Mapping[str, Any] | None = None) -> AnyAdapter:
    """The adapter of that name, by itself.

    Raises:
        UnknownStrategyError, CombinationError, ParameterError: see `strategy`; also for a name of more than an adapter.
    """
    found = strategy(name, params)
    if isinstance(found, Composite):
        raise CombinationError(f"'{name}' is more than an adapter: it has the parts {', '.join(parts_of(name))}")
    return found


def parts_of(name: str) -> list[str]:
    """The parts of the strategy of that name, its adapter first even where the name leaves it out.

    Raises:
        UnknownStrategyError, CombinationError: see `strategy`.
    """
    return _complete(name, _PLUS.split(name))


def name_of(strategy: Strategy) -> str:
    """The name of a strategy: its parts' names, or those of their classes where these are not registered.

    The adapter is left out where it is the one that the rest goes with.
    """
    adapter, *others = [_name(part) for part in as_composite(strategy)]
    _, *parts = as_composite(strategy)
    return "+".join(others if parts and adapter == _goes_with(parts[0]) else [adapter, *others])


def params_of(strategy: Strategy) -> dict[str, Any]:
    """All hyperparameters of a strategy: by name for an adapter by itself, else by ``part.name``."""
    if not isinstance(strategy, Composite):
        return asdict(strategy)  # type: ignore[call-overload,no-any-return]
    return {f"{_name(part)}.{key}": value for part in strategy for key, value in asdict(part).items()}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the hyperparameters of the strategy of that name, as `params_of` names them.

    Raises:
        UnknownStrategyError, CombinationError: see `strategy`.
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
            raise _unknown(name, part)
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise CombinationError(f"'{name}' cannot be: it names {twice} twice; leave one out")
    for kind, reason in _MANY.items():
        same = [part for part in parts if _kind(part) == kind]
        if len(same) > 1:
            raise CombinationError(f"'{name}' cannot be: {same[0]} and {same[1]} {reason}")
    # Stable: correctors keep the order in which they were named, which means something.
    ordered = sorted(parts, key=lambda part: ORDER.index(_kind(part)))
    _check_last(name, ordered)
    if _kind(ordered[0]) == "adapter":
        return ordered
    missing = _goes_with(STRATEGIES[ordered[0]])
    if missing not in STRATEGIES:
        raise UnknownStrategyError(
            f"{ordered[0]} goes with '{missing}', which is not installed: name an adapter, such as adabn+{name}"
        )
    return [missing, *ordered]


def _unknown(name: str, part: str) -> UnknownStrategyError:
    if not part:
        return UnknownStrategyError(
            f"strategy '{name}' has an empty part: write one name, or several joined by '+', such as unmix_tns+lame"
        )
    which = f"'{part}' in '{name}'" if part != name else f"'{part}'"
    return UnknownStrategyError(
        f"unknown strategy {which}: choose one of {', '.join(STRATEGIES)}, or several joined by '+'"
    )


def _check_last(name: str, ordered: Sequence[str]) -> None:
    """Nothing can go on from the answers of a corrector that must be the last."""
    ends = [part for part in ordered if getattr(STRATEGIES[part], "last", False)]
    if len(ends) > 1:
        raise CombinationError(f"'{name}' cannot be: {ends[0]} and {ends[1]} must both come last: name one of them")
    if ends and ends[0] != ordered[-1]:
        mended = "+".join([*(part for part in ordered if part not in ends), *ends])
        raise CombinationError(
            f"'{name}' cannot be: {ends[0]} gives probabilities that are no scores of the network any more, which "
            f"{ordered[-1]} needs: write {mended}"
        )


def _built(part: str, given: Mapping[str, Any], *, alone: bool) -> Any:
    try:
        return build(STRATEGIES[part], part, given)
    except ParameterError as error:
        if alone:
            raise
        raise ParameterError(f"{part}: {error}") from error


def _dealt(name: str, parts: Sequence[str], params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Hyperparameters by part."""
    owners = {key: _owners(key, parts) for key in params}
    unknown = sorted(key for key, found in owners.items() if not found)
    if unknown:
        shown = ", ".join(map(reprlib.repr, unknown))
        raise ParameterError(f"strategy '{name}' has no parameter {shown}: {_offer(parts)}")
    given: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for key, (owner, *others) in owners.items():
        field = key.rpartition(".")[2]
        if others:
            choices = " or ".join(f"{one}.{field}" for one in (owner, *others))
            raise ParameterError(f"strategy '{name}' has several parameters {key!r}: write {choices}")
        if field in given[owner]:
            raise ParameterError(f"strategy '{name}' was given {owner}.{field} twice: leave one out")
        given[owner][field] = params[key]
    return given


def _owners(key: str, parts: Sequence[str]) -> list[str]:
    """The parts that a hyperparameter may be meant for."""
    part, dot, field = key.rpartition(".")
    return [one for one in parts if field in _fields(one) and (not dot or one == part)]


def _offer(parts: Sequence[str]) -> str:
    known = [f"{part}.{field}" if len(parts) > 1 else field for part in parts for field in _fields(part)]
    return f"it takes {', '.join(known)}" if known else "it takes none"


def _fields(part: str) -> list[str]:
    return [field.name for field in fields(STRATEGIES[part])]


def _kind(part: str) -> str:
    return kind_of(STRATEGIES[part])


def _goes_with(part: Any) -> str:
    return str(getattr(part, "adapter", "source"))


def _name(part: Any) -> str:
    return next((name for name, cls in STRATEGIES.items() if cls is type(part)), type(part).__name__)


def to_strategy(given: str | Strategy, params: Mapping[str, Any]) -> Strategy:
    """The strategy of a name with hyperparameters, or the instance itself.

    Raises:
        TypeError: an instance, and hyperparameters beside it.
        UnknownStrategyError, ParameterError: see `strategy`.
    """
    if isinstance(given, str):
        return strategy(given, params)
    if params:
        raise TypeError("give hyperparameters to the instance itself; params go with a strategy's name")
    return given
