"""Names of strategies to strategies and back: ``unmix_tns+tent+lame``, and the hyperparameters of each part."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from adapters.base import AnyAdapter, Learner
from adapters.composite import Composite, Strategy, as_composite
from adapters.errors import CombinationError, ParameterError, UnknownStrategyError
from adapters.params import build, schema
from adapters.registry import COMBINATIONS, KINDS, STRATEGIES, kind_of

ORDER = tuple(KINDS)
"""The order of the parts in a name: adapter, learner, correctors."""
# In an address a plus sign stands for a space, unless the client has written it as %2B.
_PLUS = re.compile(r" *\+ *| +")
_COMBINATION_NAMES = {combination.parts: name for name, combination in COMBINATIONS.items()}
_DUPLICATE_REASONS = {
    "adapter": "both normalize, and a strategy normalizes once: name one of them",
    "learner": "both learn the same affine parameters: name one of them",
}


def strategy(name: str, params: Mapping[str, Any] | None = None) -> Strategy:
    """Return the strategy of that name with the given hyperparameters, the others at their defaults.

    >>> strategy("adabn", {"momentum": 0.2}).momentum, name_of(strategy("lame+tent"))
    (0.2, 'tent+lame')

    A name is one of ``STRATEGIES``, or several joined by plus signs: at most one adapter, then at most one learner,
    then correctors in the order in which they refine. Without an adapter it is the one that the learner, or else the
    first corrector, goes with. A name in ``COMBINATIONS``, such as `auto`, stands for its parts. A hyperparameter is
    addressed by its name, or by ``part.name`` where several parts have one of that name.

    Raises:
        UnknownStrategyError: a part is not registered; the message lists those that are.
        CombinationError: parts that cannot be combined.
        ParameterError: a hyperparameter that is unknown, given twice, of the wrong type or out of range.
    """
    parts = parts_of(name)
    part_params = _params_by_part(name, parts, params or {})
    adapter, *extras = [_build_part(part, part_params[part], is_single=len(parts) == 1) for part in parts]
    if not extras:
        single: AnyAdapter = adapter
        return single
    learner = extras.pop(0) if isinstance(extras[0], Learner) else None
    return Composite(adapter, learner, tuple(extras))


def strategy_or_default(default: Strategy, name: str, params: Mapping[str, Any]) -> Strategy:
    """Return ``default``, which needs no registration, if it has that name and hyperparameters, or else `strategy`."""
    return default if name == name_of(default) and params == params_of(default) else strategy(name, params)


def adapter(name: str, params: Mapping[str, Any] | None = None) -> AnyAdapter:
    """Return the adapter of that name, by itself.

    Raises:
        UnknownStrategyError, CombinationError, ParameterError: see `strategy`; also for a name of more than an adapter.
    """
    result = strategy(name, params)
    if isinstance(result, Composite):
        raise CombinationError(f"'{name}' is not a single adapter: it has the parts {', '.join(parts_of(name))}")
    return result


def parts_of(name: str) -> list[str]:
    """Return the parts of the strategy of that name, its adapter first even where the name leaves it out.

    Raises:
        UnknownStrategyError, CombinationError: see `strategy`.
    """
    if not isinstance(name, str):
        raise UnknownStrategyError(f"the name of a strategy must be text, such as 'adabn', not {reprlib.repr(name)}")
    return _complete(name, [part for word in _PLUS.split(name) for part in _expand(word)])


def name_of(strategy: Strategy) -> str:
    """Return the name of a strategy: its parts' names, or those of their classes where these are not registered.

    The adapter is left out where it is the one that the rest goes with. `auto` is the name of its parts together.
    """
    parts = list(as_composite(strategy))
    adapter, *extras = part_names = [part_name(part) for part in parts]
    if (combined := _COMBINATION_NAMES.get(tuple(part_names))) is not None:
        return combined
    return "+".join(extras if extras and adapter == parts[1].adapter else part_names)


def params_of(strategy: Strategy) -> dict[str, Any]:
    """Return all hyperparameters of a strategy: by name for an adapter by itself, else by ``part.name``."""
    parts = as_composite(strategy)
    if parts.is_single:
        return asdict(parts.adapter)  # type: ignore[call-overload,no-any-return]
    return {f"{part_name(part)}.{key}": value for part in parts for key, value in asdict(part).items()}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the hyperparameters of the strategy of that name, as `params_of` names them.

    Raises:
        UnknownStrategyError, CombinationError: see `strategy`.
    """
    parts = parts_of(name)
    if len(parts) == 1:
        return schema(STRATEGIES[parts[0]])
    schemas = {part: schema(STRATEGIES[part])["properties"] for part in parts}
    properties = {f"{part}.{key}": rules for part, part_fields in schemas.items() for key, rules in part_fields.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _expand(word: str) -> tuple[str, ...]:
    return COMBINATIONS[word].parts if word in COMBINATIONS else (word,)


def _complete(name: str, parts: list[str]) -> list[str]:
    """Return the parts in order, with an adapter."""
    for part in parts:
        if part not in STRATEGIES:
            raise _unknown_error(name, part)
    if len(set(parts)) < len(parts):
        duplicate = next(part for part in parts if parts.count(part) > 1)
        raise CombinationError(f"'{name}' cannot be combined: {duplicate} appears twice; remove one")
    for kind, reason in _DUPLICATE_REASONS.items():
        duplicates = [part for part in parts if _part_kind(part) == kind]
        if len(duplicates) > 1:
            raise CombinationError(f"'{name}' cannot be combined: {duplicates[0]} and {duplicates[1]} {reason}")
    # Stable: correctors keep the order in which they were named, which means something.
    ordered = sorted(parts, key=lambda part: ORDER.index(_part_kind(part)))
    _check_last(name, ordered)
    if _part_kind(ordered[0]) == "adapter":
        return ordered
    missing = STRATEGIES[ordered[0]].adapter
    if missing not in STRATEGIES:
        raise UnknownStrategyError(
            f"{ordered[0]} needs '{missing}', which is not installed: choose an adapter, such as adabn+{name}"
        )
    return [missing, *ordered]


def _unknown_error(name: str, part: str) -> UnknownStrategyError:
    if not part:
        return UnknownStrategyError(
            f"strategy '{name}' has an empty part: write one name, or several joined by '+', such as unmix_tns+lame"
        )
    quoted = f"'{part}' in '{name}'" if part != name else f"'{part}'"
    hint = '; hyperparameters go in params, such as {"momentum": 0.2}' if re.search("[:=(]", part) else ""
    return UnknownStrategyError(
        f"unknown strategy {quoted}: choose one of {', '.join((*COMBINATIONS, *STRATEGIES))}, or several joined by "
        f"'+'{hint}"
    )


def _check_last(name: str, ordered: Sequence[str]) -> None:
    """Raise CombinationError unless the corrector that must be last is last."""
    final = [part for part in ordered if _part_kind(part) == "corrector" and STRATEGIES[part].last]
    if len(final) > 1:
        raise CombinationError(
            f"'{name}' cannot be combined: {final[0]} and {final[1]} must both come last: name one of them"
        )
    if final and final[0] != ordered[-1]:
        corrected = "+".join([*(part for part in ordered if part not in final), *final])
        raise CombinationError(
            f"'{name}' cannot be combined: {final[0]} gives probabilities, and {ordered[-1]} needs the network's "
            f"scores: write {corrected}"
        )


def _build_part(part: str, params: Mapping[str, Any], *, is_single: bool) -> Any:
    try:
        return build(STRATEGIES[part], part, params)
    except ParameterError as error:
        if is_single:
            raise
        raise ParameterError(f"{part}: {error}") from error


def _params_by_part(name: str, parts: Sequence[str], params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the hyperparameters by part."""
    if not isinstance(params, Mapping) or not all(isinstance(key, str) for key in params):
        raise ParameterError(f'params must be a mapping, such as {{"momentum": 0.2}}, not {reprlib.repr(params)}')
    owners = {key: _owners(key, parts) for key in params}
    unknown = sorted(key for key, candidates in owners.items() if not candidates)
    if unknown:
        listing = ", ".join(map(reprlib.repr, unknown))
        raise ParameterError(f"strategy '{name}' has no parameter {listing}: {_accepted_params(parts)}")
    result: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for key, (owner, *rivals) in owners.items():
        field = key.rpartition(".")[2]
        if rivals:
            choices = " or ".join(f"{candidate}.{field}" for candidate in (owner, *rivals))
            raise ParameterError(f"parameter {key!r} is ambiguous in strategy '{name}': write {choices}")
        if field in result[owner]:
            raise ParameterError(f"parameter {owner}.{field} of strategy '{name}' appears twice: remove one")
        result[owner][field] = params[key]
    return result


def _owners(key: str, parts: Sequence[str]) -> list[str]:
    """Return the parts that have the hyperparameter."""
    part, dot, field = key.rpartition(".")
    return [candidate for candidate in parts if field in _field_names(candidate) and (not dot or candidate == part)]


def _accepted_params(parts: Sequence[str]) -> str:
    accepted = [f"{part}.{field}" if len(parts) > 1 else field for part in parts for field in _field_names(part)]
    return f"it takes {', '.join(accepted)}" if accepted else "it takes none"


def _field_names(part: str) -> list[str]:
    return [field.name for field in fields(STRATEGIES[part])]


def _part_kind(part: str) -> str:
    return kind_of(STRATEGIES[part])


def part_name(part: Any) -> str:
    """Return the name of one part of a strategy, or that of its class where this is not registered."""
    return next((name for name, cls in STRATEGIES.items() if cls is type(part)), type(part).__name__)


def to_strategy(name_or_strategy: str | Strategy, params: Mapping[str, Any]) -> Strategy:
    """Return the strategy of a name with hyperparameters, or the instance itself.

    Raises:
        TypeError: an instance, and hyperparameters beside it.
        UnknownStrategyError, ParameterError: see `strategy`.
    """
    if isinstance(name_or_strategy, str):
        return strategy(name_or_strategy, params)
    if params:
        raise TypeError("params need the name of a strategy: pass hyperparameters to the instance's constructor")
    return name_or_strategy
