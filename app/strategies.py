"""Strategies by their names in requests, cached, with the temperatures fitted for them."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from adapters import Composite, ParameterError, Strategy, Temperature, as_composite, name_of, params_of
from adapters import strategy as create_strategy
from app.files import file_fingerprint
from app.models.hosted import Hosted
from app.settings import Settings
from app.temperatures import CalibrationError, Temperatures, default_file

log = logging.getLogger("renorm")

CACHE_SIZE = 1024
"""Cached strategies: many more than clients use, and few enough to bound the memory."""


class ResolvedStrategy(NamedTuple):
    """A strategy, its name, and all its hyperparameters, which are shared and must not be changed."""

    strategy: Composite
    name: str
    params: dict[str, Any]


def resolve(name: str, params: Mapping[str, Any]) -> ResolvedStrategy:
    """Return the strategy of that name with these hyperparameters, the others at their defaults.

    Raises:
        adapters.UnknownStrategyError, adapters.ParameterError: see `adapters.strategy`.
    """
    try:
        # With types: 1, 1.0 and true are equal in Python, but not all are numbers to a strategy.
        return _resolve_cached(name, tuple((key, type(value), value) for key, value in params.items()))
    except TypeError:
        # An unhashable list or object as a value, which the strategy itself checks.
        return describe_strategy(create_strategy(name, params))


@lru_cache(CACHE_SIZE)
def describe_strategy(strategy: Strategy) -> ResolvedStrategy:
    """Return a strategy with its name and hyperparameters."""
    return ResolvedStrategy(as_composite(strategy), name_of(strategy), params_of(strategy))


@lru_cache(CACHE_SIZE)
def _resolve_cached(name: str, params: tuple[tuple[str, type, Any], ...]) -> ResolvedStrategy:
    return describe_strategy(create_strategy(name, {key: value for key, _, value in params}))


PARAMETER = "temperature.temperature"
"""The hyperparameter that receives the fitted temperature."""


def in_front(strategy: Composite) -> Composite:
    """Return the parts of a strategy before its temperature, or the whole strategy if it has none."""
    correctors = takewhile(lambda corrector: not isinstance(corrector, Temperature), strategy.correctors)
    return replace(strategy, correctors=tuple(correctors))


def key_of(strategy: Strategy) -> str:
    """Return the key of a temperature in its file: the strategy's name, then non-default hyperparameters.

    It is written as `renorm evaluate` takes strategies: ``adabn:momentum=0.2``.
    """
    name, params = name_of(strategy), params_of(strategy)
    defaults = params_of(create_strategy(name))
    params_text = [f"{key}={_format_value(value)}" for key, value in sorted(params.items()) if value != defaults[key]]
    return f"{name}:{','.join(params_text)}" if params_text else name


def model_of(hosted: Hosted, settings: Settings) -> str:
    """Return the key of a model in the file of temperatures: its source, file of weights and key in it."""
    names = [hosted.source, *([settings.weights.name] if settings.weights else ()), settings.weights_key or ""]
    return " ".join(filter(None, names))


def file_of(settings: Settings) -> Path:
    """Return the file of temperatures in the settings."""
    return settings.temperatures or default_file()


class StrategyResolver:
    """Resolves strategies with the temperatures fitted for one model, reloading their file when it changes.

    Raises:
        CalibrationError: the file cannot be read, or is not a file of temperatures.
    """

    def __init__(self, settings: Settings, hosted: Hosted) -> None:
        self._file, self._model = file_of(settings), model_of(hosted, settings)
        weights = () if settings.weights is None else ("--weights", str(settings.weights.name))
        key = () if settings.weights_key is None else ("--weights-key", settings.weights_key)
        self._command = shlex.join(["renorm", "calibrate-temperature", "--model", settings.model, *weights, *key])
        self._fingerprint = file_fingerprint(self._file)
        self._temperatures = Temperatures.load(self._file)

    def resolve(self, name: str, params: Mapping[str, Any]) -> ResolvedStrategy:
        """Like `resolve`; a strategy with the part `temperature` gets the one fitted for the parts before it.

        Raises:
            adapters.UnknownStrategyError, adapters.ParameterError: see `adapters.strategy`; also where no temperature
                was fitted and none is given.
        """
        resolved = resolve(name, params)
        # `temperature` alone means this part's parameter: an ambiguous name would have been refused.
        has_temperature = any(isinstance(corrector, Temperature) for corrector in resolved.strategy.correctors)
        if not has_temperature or PARAMETER in params or "temperature" in params:
            return resolved
        return resolve(name, {**params, PARAMETER: self._fitted(key_of(in_front(resolved.strategy)))})

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
        """Reload the file if it has changed."""
        fingerprint = file_fingerprint(self._file)
        if fingerprint == self._fingerprint:
            return
        # Also for a broken file: one log line for each version of the file is enough.
        self._fingerprint = fingerprint
        try:
            self._temperatures = Temperatures.load(self._file)
        except CalibrationError as error:
            log.error("%s; until then the temperatures loaded before stay in use", error.line)
        else:
            log.info("temperatures reloaded from %s", self._file)


def _format_value(value: Any) -> str:
    """Return a value as JSON, with equal numbers alike: 2 and 2.0 are one strategy."""
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
