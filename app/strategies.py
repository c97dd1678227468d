"""Strategies as requests name them, each made once, with the temperatures that were fitted for them."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from adapters import ParameterError, Strategy, Temperature, as_composite, name_of, params_of
from adapters import strategy as made
from adapters.composite import from_parts
from app.models.hosted import Hosted
from app.settings import Settings
from app.temperatures import CalibrationError, Temperatures, default_file

log = logging.getLogger("renorm")

CACHED = 1024
"""Strategies that are kept: many more than a server's clients use, and few enough that nobody can fill the memory."""


class ResolvedStrategy(NamedTuple):
    """A strategy, its name, and all its hyperparameters, which nobody may change."""

    strategy: Strategy
    name: str
    params: dict[str, Any]


def resolve(name: str, params: Mapping[str, Any]) -> ResolvedStrategy:
    """The strategy of that name with these hyperparameters, the others at their defaults.

    Raises:
        adapters.UnknownStrategyError, adapters.ParameterError: see `adapters.strategy`.
    """
    try:
        # With types: 1, 1.0 and true are equal to Python, and not all of them are a number to a strategy.
        return _made(name, tuple((key, type(value), value) for key, value in params.items()))
    except TypeError:
        # A list or an object as a value, which the strategy itself is to judge.
        return describe_strategy(made(name, params))


@lru_cache(CACHED)
def describe_strategy(strategy: Strategy) -> ResolvedStrategy:
    """What there is to tell of a strategy."""
    return ResolvedStrategy(strategy, name_of(strategy), params_of(strategy))


@lru_cache(CACHED)
def _made(name: str, params: tuple[tuple[str, type, Any], ...]) -> ResolvedStrategy:
    return describe_strategy(made(name, {key: value for key, _, value in params}))


PARAMETER = "temperature.temperature"
"""The hyperparameter that is filled in."""

Signature = tuple[int, int, int]


def in_front(strategy: Strategy) -> Strategy:
    """The parts of a strategy up to its temperature, whose scores that divides; all of it where it has none."""
    parts = list(as_composite(strategy))
    front = next((i for i, part in enumerate(parts) if isinstance(part, Temperature)), len(parts))
    return from_parts(parts[:front])


def key_of(strategy: Strategy) -> str:
    """What a temperature is kept under: the strategy's name, then hyperparameters that are not the defaults.

    It is written as `renorm evaluate` takes strategies: ``adabn:momentum=0.2``.
    """
    name, params = name_of(strategy), params_of(strategy)
    usual = params_of(made(name))
    given = [f"{key}={_written(value)}" for key, value in sorted(params.items()) if value != usual[key]]
    return f"{name}:{','.join(given)}" if given else name


def model_of(hosted: Hosted, settings: Settings) -> str:
    """Source, file of weights and key in it: what tells a model from others that temperatures were fitted for."""
    names = [hosted.source, *([settings.weights.name] if settings.weights else ()), settings.weights_key or ""]
    return " ".join(filter(None, names))


def file_of(settings: Settings) -> Path:
    """The file that these settings keep temperatures in."""
    return settings.temperatures or default_file()


class StrategyResolver:
    """What was fitted for one model, as its file has it now: who fits again need not start the server again.

    Raises:
        CalibrationError: the file cannot be read, or is no such file.
    """

    def __init__(self, settings: Settings, hosted: Hosted) -> None:
        self._file, self._model = file_of(settings), model_of(hosted, settings)
        weights = () if settings.weights is None else ("--weights", str(settings.weights.name))
        key = () if settings.weights_key is None else ("--weights-key", settings.weights_key)
        self._command = shlex.join(["renorm", "calibrate-temperature", "--model", settings.model, *weights, *key])
        self._read = _signature(self._file)
        self._temperatures = Temperatures.load(self._file)

    def resolve(self, name: str, params: Mapping[str, Any]) -> ResolvedStrategy:
        """As `resolve`; a strategy with the part `temperature` gets the one fitted for the parts before it.

        Raises:
            adapters.UnknownStrategyError, adapters.ParameterError: see `adapters.strategy`; also where no temperature
                was fitted and none is given.
        """
        found = resolve(name, params)
        # A parameter without the part's name is its own, or the name would have been refused as that of several.
        if not _has_temperature(found.strategy) or PARAMETER in params or "temperature" in params:
            return found
        return resolve(name, {**params, PARAMETER: self._fitted(key_of(in_front(found.strategy)))})

    def _fitted(self, key: str) -> float:
        self._refresh()
        fitted = self._temperatures.get(self._model, key)
        if fitted is None:
            command = f"{self._command} --strategy {shlex.quote(key)} --data FOLDER"
            raise ParameterError(
                f"no temperature was fitted for the model '{self._model}' with the strategy '{key}': fit one on "
                f"labelled images with `{command}`, or give the parameter {PARAMETER}"
            )
        return fitted.temperature

    def _refresh(self) -> None:
        """Read the file again if it is another one than before."""
        now = _signature(self._file)
        if now == self._read:
            return
        # Also where it is broken: one line in the log for each version of the file is enough.
        self._read = now
        try:
            self._temperatures = Temperatures.load(self._file)
        except CalibrationError as error:
            why = f"{error.message}; {error.hint}" if error.hint else error.message
            log.error("%s; until then those that were read before stay in use", why)
        else:
            log.info("temperatures were read again from %s", self._file)


def _has_temperature(strategy: Strategy) -> bool:
    return any(isinstance(corrector, Temperature) for corrector in getattr(strategy, "correctors", ()))


def _signature(file: Path) -> Signature | None:
    """What changes when the file does; None where there is none, or none that can be looked at."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _written(value: Any) -> str:
    """A value as JSON, numbers that are equal in the same way: 2 and 2.0 are one strategy."""
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
