"""The fields of requests: declared once, checked alike whether they come in a query, a form or JSON."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import FieldError
from app.http.requests.strict_json import load_object

LONGEST_NAME = 128
"""Characters of a stream's or strategy's name."""

LONGEST_TIMEOUT = 86_400
"""Seconds."""


@dataclass(frozen=True)
class Known:
    """One field: its JSON schema, how the text of a query or form becomes its value, which values are taken.

    ``read`` leaves text that it cannot make sense of as it is, for ``check`` to refuse with one message.
    """

    schema: dict[str, Any]
    check: Callable[[Any], None]
    read: Callable[[str], Any] = str


def gather(
    known: Mapping[str, Known],
    text: Iterable[tuple[str, str]] = (),
    members: Mapping[str, Any] | None = None,
    *,
    before: Mapping[str, Any] | None = None,
    beside: str = "",
) -> dict[str, Any]:
    """Checked values by field, from the ``text`` of a query or form or from the ``members`` of a JSON object.

    ``before`` holds what the query gave already and is part of the result; ``beside`` names a field that the caller
    read itself, so that the list of known ones is complete.

    Raises:
        FieldError: a field is unknown, given twice with different content, of the wrong type or out of range.
    """
    values = dict(before or {})
    given = [(name, value, True) for name, value in text] + [(name, v, False) for name, v in (members or {}).items()]
    for name, value, textual in given:
        if name not in known:
            raise _unknown(name, [*([beside] if beside else []), *known])
        read = known[name].read(value) if textual else value
        known[name].check(read)
        # Pages of documentation fill in a query and a form alike: what says the same twice is one thing.
        if name in values and values[name] != read:
            raise FieldError(f"{name} is given twice", hint="give it once, in the query or in the body", location=name)
        values[name] = read
    return values


def check_stream(name: Any) -> None:
    """A stream's name must stand in a path and in a log line.

    Raises:
        FieldError: it does not.
    """
    if not _printable(name) or "/" in name or name in {".", ".."} or name != name.strip():
        raise FieldError(
            f"stream must be 1 to {LONGEST_NAME} printable characters without '/' and without spaces around them, and "
            f"not '.' or '..', not {_short(name)}",
            hint="name it after its source, such as camera-7",
            location="stream",
        )


def check_top_k(value: Any, classes: int) -> None:
    """No more classes can be ranked than the model has.

    Raises:
        FieldError: ``value`` is not in 1 to ``classes``.
    """
    if not _whole(value) or not 1 <= value <= classes:
        raise FieldError(
            f"top_k must be a whole number from 1 to {classes}, not {_short(value)}",
            hint=f"the model has {classes} classes",
            location="top_k",
        )


def _check_strategy(name: Any) -> None:
    if not _printable(name):
        raise FieldError(
            f"strategy must be a name, not {_short(name)}", hint="GET /v1/strategies lists them", location="strategy"
        )


def _check_params(value: Any) -> None:
    if not isinstance(value, dict):
        raise FieldError(
            f"params must be a JSON object, not {_short(value)}",
            hint='such as {"momentum": 0.1}; GET /v1/strategies lists what each strategy takes',
            location="params",
        )


def _check_update(value: Any) -> None:
    if not isinstance(value, bool):
        raise FieldError(f"update must be true or false, not {_short(value)}", location="update")


def _check_all(value: Any) -> None:
    if not isinstance(value, bool):
        raise FieldError(f"all must be true or false, not {_short(value)}", location="all")


def _check_whole(value: Any) -> None:
    if not _whole(value):
        raise FieldError(f"top_k must be a whole number, not {_short(value)}", location="top_k")


def _check_timeout(value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST_TIMEOUT:
        raise FieldError(
            f"timeout must be a number of seconds above 0 and at most {LONGEST_TIMEOUT}, not {_short(value)}",
            hint="such as 0.5",
            location="timeout",
        )


def _read_params(text: str) -> dict[str, Any]:
    return load_object(text, "params")


def _read_update(text: str) -> Any:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)


def _read_top_k(text: str) -> Any:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


def _read_timeout(text: str) -> Any:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else text


def _printable(name: Any) -> bool:
    return isinstance(name, str) and 1 <= len(name) <= LONGEST_NAME and name.isprintable()


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    words = {"None": "null", "True": "true", "False": "false"}
    shown = reprlib.repr(value)
    return words.get(shown, shown)


def _unknown(name: str, known: list[str]) -> FieldError:
    shown = _short(name)
    return FieldError(f"unknown field {shown}", hint=f"known are {', '.join(known)}", location=name[:LONGEST_NAME])


_NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}

STREAM = Known(
    {
        **_NAME,
        # One pattern, because pages call what has a "not" a value of type "never".
        "pattern": "^(?!\\.{1,2}$)[^/\\s]([^/]*[^/\\s])?$",
        "default": "default",
        "description": "whose images these are, such as camera-7",
    },
    check_stream,
)
STRATEGY = Known(
    {**_NAME, "description": "how to adapt, such as adabn; by default the server's choice"}, _check_strategy
)

PREDICT: dict[str, Known] = {
    "stream": STREAM,
    "strategy": STRATEGY,
    "params": Known(
        {
            "type": "object",
            "description": 'hyperparameters, such as {"momentum": 0.2}; in a query or form as JSON text',
        },
        _check_params,
        _read_params,
    ),
    "update": Known(
        {"type": "boolean", "default": True, "description": "false: answer from the state, without changing it"},
        _check_update,
        _read_update,
    ),
    "top_k": Known(
        {"type": "integer", "minimum": 1, "description": "classes per image; by default five, or all"},
        _check_whole,
        _read_top_k,
    ),
    "timeout": Known(
        {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": LONGEST_TIMEOUT,
            "description": "seconds; a request that waits longer for its forward is refused with 504",
        },
        _check_timeout,
        _read_timeout,
    ),
}
"""What `POST /v1/predict` takes beside the images."""

RESET: dict[str, Known] = {
    "stream": Known({**_NAME, "description": "only this stream"}, check_stream),
    "strategy": Known({**_NAME, "description": "only states of this strategy"}, _check_strategy),
    "all": Known(
        {"type": "boolean", "description": "true: every stream; asked for where neither of the others is given"},
        _check_all,
        _read_update,
    ),
}
"""What `POST /v1/admin/reset` takes."""
