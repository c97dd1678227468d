"""Parameters of a request: the stream it belongs to, and how to adapt."""

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
    "renorm_strategy": "name of the adaptation strategy",
    "renorm_update": "false: predict without updating the stream's state",
    "renorm_params": "hyperparameters of the strategy, as the text of a JSON object",
    "renorm_explain": "true: the answer also says what the stream's next answer leans on and why",
    "renorm_request_id": "idempotency key: a request sent again with the same key takes no second step",
}
"""Parameters of this server alone. Each hyperparameter of the strategy is one, too: `renorm_momentum`."""


@dataclass(frozen=True)
class InferOptions:
    """Options of a request, with the field names of `app.types.Call`; ``stream`` is None where none is named."""

    stream: str | None = None
    strategy: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    update: bool = True
    start: bool = False
    end: bool = False
    request_id: str | None = None
    timeout_s: float | None = None
    explain: bool = False


def read_options(parameters: Mapping[str, Any], default_strategy: str) -> InferOptions:
    """Read a request's parameters. Unknown ones are ignored, unless their prefix is reserved.

    ``timeout`` is in microseconds, and 0 is none, as everywhere in the protocol. ``priority`` is accepted and ignored:
    requests are answered in the order in which they come.

    Raises:
        FieldError: a parameter has the wrong type or is reserved, or a ``renorm_`` parameter is unknown.
        adapters.UnknownStrategyError: there is no such strategy.
    """
    for name in parameters:
        if name.startswith("triton_"):
            raise _parameter_error(name, "is reserved: parameter names must not begin with triton_")
    _number(parameters, "priority")
    strategy = _text(parameters, "renorm_strategy")
    timeout = _number(parameters, "timeout")
    return InferOptions(
        stream=_stream(parameters),
        strategy=strategy,
        params=_params(parameters, strategy or default_strategy),
        update=_flag(parameters, "renorm_update", default=True),
        start=_flag(parameters, "sequence_start"),
        end=_flag(parameters, "sequence_end"),
        request_id=_text(parameters, "renorm_request_id"),
        timeout_s=timeout / 1e6 if timeout else None,
        explain=_flag(parameters, "renorm_explain"),
    )


def _stream(parameters: Mapping[str, Any]) -> str | None:
    sequence = parameters.get("sequence_id", "")
    if not isinstance(sequence, str):
        sequence = str(_number(parameters, "sequence_id") or "")
    name = _text(parameters, "renorm_stream")
    if name and sequence and name != sequence:
        raise _parameter_error("renorm_stream", "and sequence_id name different streams; send one of them")
    return name or sequence or None


def _params(parameters: Mapping[str, Any], strategy: str) -> dict[str, Any]:
    """Return the hyperparameters in ``renorm_params`` and in ``renorm_<name>`` parameters."""
    params: dict[str, Any] = {}
    text = parameters.get("renorm_params")
    if text is not None:
        params = _object(text)
    for name, value in parameters.items():
        if not name.startswith("renorm_") or name in OURS:
            continue
        short = name.removeprefix("renorm_")
        hyperparameters = resolve(strategy, {}).params
        # In a combination lame.memory may be called memory: `resolve` refuses an ambiguous name.
        if short not in hyperparameters and short not in {path.rpartition(".")[2] for path in hyperparameters}:
            known_names = ", ".join([*OURS, *(f"renorm_{path}" for path in hyperparameters)])
            raise _parameter_error(name, f"is unknown; strategy '{strategy}' has {known_names}")
        if short in params:
            raise _parameter_error(name, "appears twice: here and in renorm_params; send it once")
        params[short] = value
    return params


def _object(text: Any) -> dict[str, Any]:
    try:
        value = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError as error:
        raise _parameter_error("renorm_params", f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise _parameter_error("renorm_params", 'must be a JSON object as text, such as {"momentum": 0.1}')
    return value


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _parameter_error(name, f"must be true or false, not {str(value)[:50]!r}")
    return value


def _number(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= LARGEST:
        kind = "text or an integer" if name == "sequence_id" else "an integer"
        raise _parameter_error(name, f"must be {kind} from 0 to {LARGEST}, not {str(value)[:50]!r}")
    return value


def _text(parameters: Mapping[str, Any], name: str) -> str | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST or not value.isprintable():
        raise _parameter_error(name, f"must be text of 1 to {LONGEST} printable characters, not {str(value)[:50]!r}")
    return value


def _parameter_error(name: str, problem: str) -> FieldError:
    return FieldError(f"parameter '{name[:LONGEST]}' {problem}", location=f"parameters.{name[:LONGEST]}")
