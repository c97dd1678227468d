"""Strict JSON: UTF-8, finite numbers, an object at the top level, limited depth."""

from __future__ import annotations

import json
import math
from typing import Any

from app.errors import FieldError

MAX_DEPTH = 32
"""Levels of nesting: more than any request needs, fewer than Python's recursion limit."""

MAX_DIGITS = 300
"""Digits of an integer: so that each still fits a float."""


def load_object(raw: bytes | str, location: str) -> dict[str, Any]:
    """Parse the JSON object in ``raw``. Of duplicate members the last counts.

    Raises:
        FieldError: it is not UTF-8, not JSON, not an object, nested too deeply, or holds NaN, Infinity or a number
            that no float can hold.
    """
    hint = 'send one JSON object, such as {"name": "value"}'
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(text, parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except UnicodeDecodeError as error:
        raise FieldError(
            f"{location} is not UTF-8: {error.reason} at byte {error.start}", hint=hint, location=location
        ) from error
    except RecursionError as error:
        raise _too_deep(location) from error
    except ValueError as error:
        raise FieldError(f"{location} is not valid JSON: {error}", hint=hint, location=location) from error
    if not isinstance(value, dict):
        raise FieldError(f"{location} must be a JSON object, not {_type_name(value)}", hint=hint, location=location)
    if not _is_shallow(value, MAX_DEPTH):
        raise _too_deep(location)
    return value


def _too_deep(location: str) -> FieldError:
    return FieldError(f"{location} is nested too deeply", hint=f"the limit is {MAX_DEPTH} levels", location=location)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not a valid JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is out of range for a float")
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits; the limit is {MAX_DIGITS}")
    return int(digits)


def _is_shallow(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in inside if isinstance(child, dict | list))


def _type_name(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
