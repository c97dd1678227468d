"""Hyperparameters declared once: default, range and meaning in the field; checks and JSON schema follow from it."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from adapters.errors import ParameterError

NAMES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def param(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Iterable[str] = (),
) -> Any:
    """Return a dataclass field for one hyperparameter.

    ``low`` and ``high`` are inclusive bounds, ``above`` an exclusive lower one; ``choices`` lists what a string may be.
    """
    bounds = {"minimum": low, "maximum": high, "exclusiveMinimum": above, "enum": list(choices) or None}
    constraints = {name: value for name, value in bounds.items() if value is not None}
    return dataclasses.field(default=default, metadata={"description": meaning, **constraints})


def check(instance: Any) -> None:
    """Check every declared field of a dataclass instance: call it from ``__post_init__``.

    Raises:
        ParameterError: a value has the wrong type or is out of range; the message names field, value and range.
    """
    kinds = _field_types(type(instance))
    for field in dataclasses.fields(instance):
        _check_value(field, kinds[field.name], getattr(instance, field.name))


class Checked:
    """Base of dataclasses whose fields are checked when an instance is made, see `check`."""

    def __post_init__(self) -> None:
        check(self)


def build(cls: type[Any], name: str, params: Mapping[str, Any]) -> Any:
    """Return an instance of the strategy class from untrusted hyperparameters ``params``.

    Raises:
        ParameterError: unknown names (the message lists the known ones), wrong types, values out of range.
    """
    field_names = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(params) - set(field_names))
    if unknown:
        accepted = f"it takes {', '.join(field_names)}" if field_names else "it takes none"
        raise ParameterError(f"strategy '{name}' has no parameter {', '.join(map(repr, unknown))}: {accepted}")
    try:
        instance = cls(**params)
        hash(instance)
    except TypeError as error:
        raise ParameterError(f"strategy '{name}' cannot take these parameters: {error}") from error
    return instance


def schema(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a strategy's hyperparameters."""
    kinds = _field_types(cls)
    properties = {field.name: _property_schema(field, kinds[field.name]) for field in dataclasses.fields(cls)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _field_types(cls: type[Any]) -> dict[str, tuple[list[type], bool]]:
    """Return for each field its types without None, and if None is allowed."""
    hints = typing.get_type_hints(cls)
    kinds = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        members = typing.get_args(hint) if is_union else (hint,)
        kinds[field.name] = ([m for m in members if m is not type(None)], type(None) in members)
    return kinds


def _property_schema(field: dataclasses.Field[Any], kind: tuple[list[type], bool]) -> dict[str, Any]:
    members, is_optional = kind
    names = [NAMES.get(member, "object") for member in members] + (["null"] if is_optional else [])
    rules = {"type": names[0] if len(names) == 1 else names, **field.metadata}
    return rules if field.default is dataclasses.MISSING else {**rules, "default": field.default}


def _check_value(field: dataclasses.Field[Any], kind: tuple[list[type], bool], value: Any) -> None:
    members, is_optional = kind
    if value is None and is_optional:
        return
    # bool is an int to Python but never a number to a user; an int is a fine float.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_typed = bool in members if isinstance(value, bool) else isinstance(value, tuple(members))
    expected = " or ".join(_with_article(NAMES.get(member, member.__name__)) for member in members)
    expected += " or null" if is_optional else ""
    is_valid = is_typed or (float in members and is_number)
    if not is_valid or (is_number and not _is_in_range(field, value)):
        raise ParameterError(f"{field.name} must be {expected}{_range_text(field)}, not {value!r}")
    if "enum" in field.metadata and value not in field.metadata["enum"]:
        raise ParameterError(f"{field.name} must be one of {', '.join(field.metadata['enum'])}, not {value!r}")


def _is_in_range(field: dataclasses.Field[Any], value: float) -> bool:
    rules = field.metadata
    return (
        # Unlike math.isfinite this also refuses integers that no float can hold, instead of raising OverflowError.
        abs(value) <= sys.float_info.max
        and rules.get("minimum", -math.inf) <= value <= rules.get("maximum", math.inf)
        and value > rules.get("exclusiveMinimum", -math.inf)
    )


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _range_text(field: dataclasses.Field[Any]) -> str:
    rules = field.metadata
    phrases = [
        f"{word} {rules[key]:g}"
        for key, word in (("exclusiveMinimum", "above"), ("minimum", "at least"), ("maximum", "at most"))
        if key in rules
    ]
    return f" ({' and '.join(phrases)})" if phrases else ""
