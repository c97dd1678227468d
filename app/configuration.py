"""The sources of the settings: options over RENORM_* over a TOML file over the defaults."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args

from app.errors import RenormError
from app.settings import Settings

PREFIX = "RENORM_"
FILE_VARIABLE = "RENORM_CONFIG"
"""The variable that names the file where ``--config`` does not."""

NOT_SETTINGS = frozenset({FILE_VARIABLE, "RENORM_CACHE_DIR", "RENORM_KEY", "RENORM_URL"})
"""Variables that other parts read: the cache of compiled code, and the client's key and URL."""

SECRETS = frozenset({"admin_key"})
"""Fields whose values are never shown."""

_SERVICE_LINK = re.compile(r"RENORM_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_[A-Z]+(_\w+)?)")
"""The variables that Kubernetes sets in every container beside a service named renorm."""


class ConfigurationError(RenormError):
    """The configuration file cannot be read, or an unknown setting is set."""


class SettingValue(NamedTuple):
    """A value and its source: ``--port``, ``RENORM_PORT`` or ``FILE: port``."""

    value: Any
    source: str


@dataclass(frozen=True)
class Configuration:
    """The explicit value of each field of the settings, without fields at their defaults."""

    values: Mapping[str, SettingValue]
    mistakes: tuple[str, ...] = ()
    """A line for each key of the file that is not a setting, or has an invalid value."""

    def settings(self) -> Settings:
        """Create the settings, ignoring ``mistakes``.

        Raises:
            ValidationError: of pydantic; `source` returns the source of each value.
        """
        # Values of the environment too are passed as arguments, so that precedence is decided in one place.
        return Settings(**{name: setting.value for name, setting in self.values.items()})

    def source(self, name: str) -> str:
        """Return the source of the value of a field, ``default`` where none was set."""
        return self.values[name].source if name in self.values else "default"


def configuration(options: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Collect all explicit values: options that are not None, else variables, else keys of the file.

    ``options`` may hold more than fields of the settings. Without ``file``, ``RENORM_CONFIG`` may name one.

    Raises:
        ConfigurationError: the file cannot be read, or is not TOML.
    """
    path = file or _named_file()
    values, mistakes = _from_file(path) if path is not None else ({}, [])
    values |= {name: SettingValue(value, variable) for name, variable, value in _from_variables()}
    for name in Settings.model_fields:
        if options.get(name) is not None:
            values[name] = SettingValue(options[name], f"--{name.replace('_', '-')}")
    return Configuration(values, tuple(mistakes))


def unknown_variables() -> list[str]:
    """Return a line for every RENORM_* variable that is not a setting, usually a misspelt one."""
    known_names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    return [
        f"{variable} is not a setting{_suggestion(variable.upper(), known_names)}"
        for variable in sorted(os.environ)
        if variable.upper().startswith(PREFIX)
        and variable.upper() not in known_names
        and _SERVICE_LINK.fullmatch(variable) is None
    ]


def _named_file() -> Path | None:
    return Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None


def _from_variables() -> Iterator[tuple[str, str, str]]:
    """Yield field, variable and value of each setting in the environment; names match in any case, as in pydantic."""
    for variable, value in os.environ.items():
        name = variable.lower().removeprefix(PREFIX.lower())
        if name in Settings.model_fields and variable.upper().startswith(PREFIX):
            yield name, variable, value


def _from_file(path: Path) -> tuple[dict[str, SettingValue], list[str]]:
    """Return the values of a file, and a line for each unknown key or misplaced boolean."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the configuration {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"the configuration {path} is not valid TOML: {error}") from error
    unknown = [key for key in document if key not in Settings.model_fields]
    messages = [
        f"'{key}' is not a setting{_suggestion(key.replace('-', '_'), Settings.model_fields)}" for key in unknown
    ]
    mistakes = [f"{path}: {'; '.join(messages)}"] if messages else []
    values = {}
    for key, value in document.items():
        if key in unknown:
            continue
        # Pydantic accepts true as 1 silently; it rejects a table or a date itself.
        if isinstance(value, bool) and bool not in _accepted_types(key):
            mistakes.append(f"{path}: {key} cannot be {str(value).lower()}")
        else:
            values[key] = SettingValue(_resolve_paths(key, value, path.absolute().parent), f"{path}: {key}")
    return values, mistakes


def _accepted_types(key: str) -> set[Any]:
    accepted = Settings.model_fields[key].annotation
    return {accepted, *get_args(accepted)}


def _resolve_paths(key: str, value: Any, folder: Path) -> Any:
    """Return a value with relative paths resolved against ``folder``, the folder of the configuration file."""
    if not isinstance(value, str):
        return value
    by_file = re.fullmatch(r"python:([^~].*\.py):(\w+)", value) if key == "model" else None
    if by_file is not None:
        return f"python:{folder / by_file[1]}:{by_file[2]}"
    return folder / value if Path in _accepted_types(key) else value


def _suggestion(name: str, names: Iterable[str]) -> str:
    matches = get_close_matches(name, list(names), n=1)
    return f": did you mean {matches[0]}?" if matches else "; `renorm config` lists them all"
