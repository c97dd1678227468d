"""Fields of requests: declared once, and checked alike in a query, a form and JSON."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.errors import FieldError
from app.http.requests.strict_json import load_object

LONGEST_NAME = 128
"""Characters of a stream's or strategy's name."""

LONGEST_TIMEOUT = 86_400
"""Seconds."""

_STREAM_NAME = (
    f"1 to {LONGEST_NAME} printable characters without '/' and without leading or trailing spaces, other than '.' "
    "and '..'"
)


@dataclass(frozen=True)
class FieldSpec:
    """Specification of a field: its JSON schema, the check of its values, and the parser of text in a query or form.

    ``parse`` returns text that it does not understand unchanged, so that ``check`` refuses it.
    """

    schema: dict[str, Any]
    check: Callable[[Any], None]
    parse: Callable[[str], Any] = str


def gather(
    specs: Mapping[str, FieldSpec],
    text: Iterable[tuple[str, str]] = (),
    members: Mapping[str, Any] | None = None,
    *,
    query_values: Mapping[str, Any] | None = None,
    extra_field: str = "",
) -> dict[str, Any]:
    """Return checked values by field, from the ``text`` of a query or form or from the ``members`` of a JSON object.

    ``query_values`` are those of the query, and part of the result; ``extra_field`` names a field that the caller reads
    itself, so that the list of fields in an error is complete.

    Raises:
        FieldError: a field is unknown, appears twice with different values, has the wrong type or is out of range.
    """
    values = dict(query_values or {})
    items = [(name, value, True) for name, value in text] + [(name, v, False) for name, v in (members or {}).items()]
    for name, value, is_text in items:
        if name not in specs:
            raise _unknown_field(name, [*([extra_field] if extra_field else []), *specs])
        field_value = specs[name].parse(value) if is_text else value
        specs[name].check(field_value)
        # Documentation pages fill in the query and the form alike: equal values are no conflict.
        if name in values and values[name] != field_value:
            raise FieldError(f"{name} appears twice", hint="send it once, in the query or in the body", location=name)
        values[name] = field_value
    return values


def require(is_valid: bool, name: str, expected: str, value: Any, hint: str = "") -> None:
    """Refuse the value of a field that is not valid.

    Raises:
        FieldError: it is not; the message says what is ``expected``.
    """
    if not is_valid:
        raise FieldError(f"{name} must be {expected}, not {_quoted(value)}", hint=hint, location=name)


def check_stream(name: Any) -> None:
    """Refuse a name that cannot stand in a path and in a log line.

    Raises:
        FieldError: it is not a valid name of a stream.
    """
    is_valid = _is_name(name) and "/" not in name and name not in {".", ".."} and name == name.strip()
    require(is_valid, "stream", _STREAM_NAME, name, "name it after its source, such as camera-7")


def check_top_k(value: Any, classes: int) -> None:
    """Refuse more classes than the model has.

    Raises:
        FieldError: ``value`` is not in 1 to ``classes``.
    """
    is_valid = _is_integer(value) and 1 <= value <= classes
    require(is_valid, "top_k", f"an integer from 1 to {classes}", value, f"the model has {classes} classes")


def _check_strategy(name: Any) -> None:
    require(_is_name(name), "strategy", "a name", name, "GET /v1/strategies lists them")


def _check_params(value: Any) -> None:
    hint = 'such as {"momentum": 0.1}; GET /v1/strategies lists the parameters of each strategy'
    require(isinstance(value, dict), "params", "a JSON object", value, hint)


def _check_boolean(name: str, value: Any) -> None:
    require(isinstance(value, bool), name, "true or false", value)


def _check_integer(value: Any) -> None:
    require(_is_integer(value), "top_k", "an integer", value)


def _check_timeout(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    expected = f"a number of seconds above 0 and at most {LONGEST_TIMEOUT}"
    require(is_number and 0 < value <= LONGEST_TIMEOUT, "timeout", expected, value, "such as 0.5")


def _read_boolean(text: str) -> Any:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)


def _read_top_k(text: str) -> Any:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


def _read_timeout(text: str) -> Any:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else text


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 1 <= len(name) <= LONGEST_NAME and name.isprintable()


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _quoted(value: Any) -> str:
    words = {"None": "null", "True": "true", "False": "false"}
    text = reprlib.repr(value)
    return words.get(text, text)


def _unknown_field(name: str, names: list[str]) -> FieldError:
    text, hint = f"unknown field {_quoted(name)}", f"the fields are {', '.join(names)}"
    if name == "chunk":
        hint += "; chunk goes in the query of POST /v1/predict/stream"
    return FieldError(text, hint=hint, location=name[:LONGEST_NAME])


_NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}

STREAM = FieldSpec(
    {
        **_NAME,
        # One pattern, because documentation pages show a schema with "not" as a value of type "never".
        "pattern": "^(?!\\.{1,2}$)[^/\\s]([^/]*[^/\\s])?$",
        "default": "default",
        "description": "name of the stream that the images belong to, such as camera-7",
    },
    check_stream,
)
STRATEGY = FieldSpec(
    {**_NAME, "description": "adaptation strategy, such as adabn; by default the server's"}, _check_strategy
)

PREDICT: dict[str, FieldSpec] = {
    "stream": STREAM,
    "strategy": STRATEGY,
    "params": FieldSpec(
        {
            "type": "object",
            "description": 'hyperparameters of the strategy, such as {"momentum": 0.2}; JSON text in a query or form',
        },
        _check_params,
        partial(load_object, location="params"),
    ),
    "update": FieldSpec(
        {"type": "boolean", "default": True, "description": "false: predict without updating the stream's state"},
        partial(_check_boolean, "update"),
        _read_boolean,
    ),
    "top_k": FieldSpec(
        {"type": "integer", "minimum": 1, "description": "classes per image; by default 5, or all if fewer"},
        _check_integer,
        _read_top_k,
    ),
    "timeout": FieldSpec(
        {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": LONGEST_TIMEOUT,
            "description": "seconds; a request that waits longer for its forward pass is refused with 504",
        },
        _check_timeout,
        _read_timeout,
    ),
    "explain": FieldSpec(
        {
            "type": "boolean",
            "default": False,
            "description": "true: the answer also says what the stream's next answer leans on and why",
        },
        partial(_check_boolean, "explain"),
        _read_boolean,
    ),
}
"""Fields of `POST /v1/predict` beside the images."""

RESET: dict[str, FieldSpec] = {
    "stream": FieldSpec({**_NAME, "description": "only this stream"}, check_stream),
    "strategy": FieldSpec({**_NAME, "description": "only states of this strategy"}, _check_strategy),
    "all": FieldSpec(
        {"type": "boolean", "description": "true: every stream; required without stream and strategy"},
        partial(_check_boolean, "all"),
        _read_boolean,
    ),
}
"""Fields of `POST /v1/admin/reset`."""
