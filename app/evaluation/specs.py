"""The text form of strategies: ``adabn+lame:memory=64,when=correlated``, several with commas between them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from adapters import AdapterError
from app.evaluation.errors import EvaluationError
from app.strategies import resolve

Scalar: TypeAlias = str | int | float | bool | None
"""The type of the value of a hyperparameter."""

_EXAMPLE = "write a strategy as NAME or NAME:PARAMETER=VALUE,PARAMETER=VALUE, such as adabn:momentum=0.2"


@dataclass(frozen=True)
class Spec:
    """A strategy's name and hyperparameters, sorted by name; omitted ones have their defaults."""

    strategy: str
    hyperparameters: tuple[tuple[str, Scalar], ...] = ()

    @property
    def params(self) -> dict[str, Scalar]:
        """The hyperparameters as a request takes them."""
        return dict(self.hyperparameters)

    @property
    def text(self) -> str:
        """The canonical text, which `parse_specs` reads back to an equal spec."""
        params = ",".join(f"{name}={_format_value(value)}" for name, value in self.hyperparameters)
        return f"{self.strategy}:{params}" if params else self.strategy


def parse_specs(texts: Iterable[str]) -> list[Spec]:
    """The strategies that ``texts`` name, each once, in the order in which they come first.

    Words are separated by commas or white space. One with ``=`` and no ``:`` before it is a further hyperparameter of
    the strategy before it. Values are numbers, ``true``, ``false`` and ``null`` as JSON has them; all else is text.

    Raises:
        EvaluationError: a word is neither a strategy nor a hyperparameter of one, or a hyperparameter appears twice.
    """
    entries: list[tuple[str, dict[str, Scalar]]] = []
    for text in texts:
        start = len(entries)
        for word in re.split(r"[,\s]+", text.strip(", \t\r\n")):
            name, colon, text_of_params = word.partition(":")
            if "=" in name:
                if len(entries) == start:
                    _refuse(f"'{word}' is a hyperparameter without a strategy before it")
                _add_param(*entries[-1], word)
                continue
            if not name or (colon and not text_of_params):
                _refuse(f"'{word}' in '{text}' is not a strategy")
            entries.append((name, {}))
            if colon:
                _add_param(*entries[-1], text_of_params)
    specs = [Spec(name, tuple(sorted(params.items()))) for name, params in entries]
    # By their text: to Python 1, 1.0 and true are equal, to a strategy they are not.
    return list({spec.text: spec for spec in specs}.values())


def check_specs(specs: Iterable[Spec]) -> None:
    """Check that this installation has these strategies.

    Raises:
        EvaluationError: a strategy or a hyperparameter is unknown, or a value is out of range.
    """
    for spec in specs:
        try:
            resolve(spec.strategy, spec.params)
        except AdapterError as error:
            raise EvaluationError(f"strategy '{spec.text}' cannot be evaluated: {error}") from error


def _add_param(name: str, params: dict[str, Scalar], word: str) -> None:
    parameter, equals, value = word.partition("=")
    if not parameter or not equals or not value:
        _refuse(f"'{word}' is not a hyperparameter of '{name}'")
    if parameter in params:
        _refuse(f"hyperparameter '{parameter}' of '{name}' appears twice")
    params[parameter] = _parse_value(value)


def _parse_value(text: str) -> Scalar:
    try:
        value: Any = json.loads(text, parse_constant=_not_a_number)
    except ValueError:
        return text
    fits = value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    # A text that holds what separates words could not be written again.
    fits = fits or (isinstance(value, str) and value.isprintable() and value != "" and not set(value) & set(", "))
    return value if fits else text


def _format_value(value: Scalar) -> str:
    """Format a value as `_parse_value` reads it: text stays bare where it would not be read as another type."""
    return value if isinstance(value, str) and _parse_value(value) == value else json.dumps(value, ensure_ascii=False)


def _not_a_number(word: str) -> NoReturn:
    raise ValueError(word)


def _refuse(problem: str) -> NoReturn:
    raise EvaluationError(problem, hint=_EXAMPLE)
