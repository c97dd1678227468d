"""What the parameters of a request ask for: the stream it belongs to, and how to adapt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.errors import FieldError
from app.strategies import resolve

LARGEST = 2**64 - 1
"""The protocol's numbers are unsigned and have 64 bits."""

LONGEST = 128
"""Characters of a name."""

OURS = {
    "renorm_stream": "the stream, as `sequence_id` is",
    "renorm_strategy": "how to adapt",
    "renorm_update": "false: answer without learning",
    "renorm_params": "hyperparameters of the strategy, a JSON object as text",
    "renorm_request_id": "names the request: sent again, it takes no second step",
}
"""Parameters that only this server knows. Beside them each hyperparameter of the strategy is one: `renorm_momentum`."""


@dataclass(frozen=True)
class Options:
    """What a request asks for; the fields are those of `app.types.Call`. ``stream`` None means that none is named."""

    stream: str | None = None
    strategy: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    update: bool = True
    start: bool = False
    end: bool = False
    request_id: str | None = None
    timeout_s: float | None = None


def read_options(given: Mapping[str, Any], default_strategy: str) -> Options:
    """Read a request's parameters. Those that nobody knows are ignored, unless their prefix is reserved.

    ``timeout`` is in microseconds, and 0 is none, as everywhere in the protocol. ``priority`` is accepted: requests are
    answered in the order in which they come.

    Raises:
        FieldError: a parameter has the wrong type or is reserved, or a ``renorm_`` parameter is unknown.
        adapters.UnknownStrategyError: there is no such strategy.
    """
    for name in given:
        if name.startswith("triton_"):
            raise _wrong(name, "is reserved: no parameter may begin with triton_")
    _whole(given, "priority")
    strategy = _text(given, "renorm_strategy")
    timeout = _whole(given, "timeout")
    return Options(
        stream=_stream(given),
        strategy=strategy,
        params=_params(given, strategy or default_strategy),
        update=_flag(given, "renorm_update", default=True),
        start=_flag(given, "sequence_start"),
        end=_flag(given, "sequence_end"),
        request_id=_text(given, "renorm_request_id"),
        timeout_s=timeout / 1e6 if timeout else None,
    )


def _stream(given: Mapping[str, Any]) -> str | None:
    sequence = given.get("sequence_id", "")
    if not isinstance(sequence, str):
        sequence = str(_whole(given, "sequence_id") or "")
    name = _text(given, "renorm_stream")
    if name and sequence and name != sequence:
        raise _wrong("renorm_stream", "and sequence_id name two streams; give one of them")
    return name or sequence or None


def _params(given: Mapping[str, Any], strategy: str) -> dict[str, Any]:
    """Hyperparameters from ``renorm_params``, and from parameters with names of their own."""
    params: dict[str, Any] = {}
    text = given.get("renorm_params")
    if text is not None:
        params = _object(text)
    for name, value in given.items():
        if not name.startswith("renorm_") or name in OURS:
            continue
        short = name.removeprefix("renorm_")
        known = resolve(strategy, {}).params
        # In a combination lame.memory may be called memory: whether that is clear, `named` knows.
        if short not in known and short not in {one.rpartition(".")[2] for one in known}:
            offer = ", ".join([*OURS, *(f"renorm_{one}" for one in known)])
            raise _wrong(name, f"is not known; with strategy '{strategy}' known are {offer}")
        if short in params:
            raise _wrong(name, "is in renorm_params, too; give it once")
        params[short] = value
    return params


def _object(text: Any) -> dict[str, Any]:
    try:
        value = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError as error:
        raise _wrong("renorm_params", f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _wrong("renorm_params", 'must be the text of a JSON object, such as {"momentum": 0.1}')
    return value


def _flag(given: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(name, f"must be true or false, not {str(value)[:50]!r}")
    return value


def _whole(given: Mapping[str, Any], name: str) -> int:
    value = given.get(name, 0)
    if type(value) is not int or not 0 <= value <= LARGEST:
        kind = "text or a whole number" if name == "sequence_id" else "a whole number"
        raise _wrong(name, f"must be {kind} from 0 to {LARGEST}, not {str(value)[:50]!r}")
    return value


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST or not value.isprintable():
        raise _wrong(name, f"must be text of 1 to {LONGEST} printable characters, not {str(value)[:50]!r}")
    return value


def _wrong(name: str, what: str) -> FieldError:
    return FieldError(f"parameter '{name[:LONGEST]}' {what}", location=f"parameters.{name[:LONGEST]}")
