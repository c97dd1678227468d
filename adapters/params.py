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
    """A dataclass field for one hyperparameter.

    ``low`` and ``high`` are inclusive bounds, ``above`` an exclusive lower one; ``choices`` lists what a string may be.
    """
    bounds = {"minimum": low, "maximum": high, "exclusiveMinimum": above, "enum": list(choices) or None}
    known = {name: value for name, value in bounds.items() if value is not None}
    return dataclasses.field(default=default, metadata={"description": meaning, **known})


def check(instance: Any) -> None:
    """Check every declared field of a dataclass instance: call it from ``__post_init__``.

    Raises:
        ParameterError: a value has the wrong type or is out of range; the message names field, value and range.
    """
    kinds = _kinds(type(instance))
    for field in dataclasses.fields(instance):
        _check_value(field, kinds[field.name], getattr(instance, field.name))


def build(cls: type[Any], name: str, given: Mapping[str, Any]) -> Any:
    """An instance of the strategy class from untrusted ``given`` hyperparameters.

    Raises:
        ParameterError: unknown names (the message lists the known ones), wrong types, values out of range.
    """
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        offer = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ParameterError(f"strategy '{name}' has no parameter {', '.join(map(repr, unknown))}: {offer}")
    try:
        made = cls(**given)
        hash(made)
    except TypeError as error:
        raise ParameterError(f"strategy '{name}' cannot take these parameters: {error}") from error
    return made


def schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a strategy's hyperparameters."""
    kinds = _kinds(cls)
    properties = {field.name: _property(field, kinds[field.name]) for field in dataclasses.fields(cls)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _kinds(cls: type[Any]) -> dict[str, tuple[list[type], bool]]:
    """For each field its plain types and whether None is allowed."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        members = typing.get_args(hint) if is_union else (hint,)
        found[field.name] = ([m for m in members if m is not type(None)], type(None) in members)
    return found


def _property(field: dataclasses.Field[Any], kind: tuple[list[type], bool]) -> dict[str, Any]:
    plain, optional = kind
    names = [NAMES.get(member, "object") for member in plain] + (["null"] if optional else [])
    described = {"type": names[0] if len(names) == 1 else names, **field.metadata}
    return described if field.default is dataclasses.MISSING else {**described, "default": field.default}


def _check_value(field: dataclasses.Field[Any], kind: tuple[list[type], bool], value: Any) -> None:
    plain, optional = kind
    if value is None and optional:
        return
    # bool is an int to Python but never a number to a user; an int is a fine float.
    fits = any(isinstance(value, member) and (member is bool or not isinstance(value, bool)) for member in plain) or (
        float in plain and isinstance(value, int) and not isinstance(value, bool)
    )
    wanted = " or ".join(_a(NAMES.get(member, member.__name__)) for member in plain) + (" or null" if optional else "")
    if not fits:
        raise ParameterError(f"{field.name} must be {wanted}{_range(field)}, not {value!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not _inside(field, value):
        raise ParameterError(f"{field.name} must be {wanted}{_range(field)}, not {value!r}")
    if "enum" in field.metadata and value not in field.metadata["enum"]:
        raise ParameterError(f"{field.name} must be one of {', '.join(field.metadata['enum'])}, not {value!r}")


def _inside(field: dataclasses.Field[Any], value: float) -> bool:
    rules = field.metadata
    return (
        # Unlike math.isfinite this also refuses integers that no float can hold, instead of raising OverflowError.
        abs(value) <= sys.float_info.max
        and value >= rules.get("minimum", -math.inf)
        and value <= rules.get("maximum", math.inf)
        and value > rules.get("exclusiveMinimum", -math.inf)
    )


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _range(field: dataclasses.Field[Any]) -> str:
    rules = field.metadata
    words = [
        f"{word} {rules[key]:g}"
        for key, word in (("exclusiveMinimum", "above"), ("minimum", "at least"), ("maximum", "at most"))
        if key in rules
    ]
    return f" ({' and '.join(words)})" if words else ""
