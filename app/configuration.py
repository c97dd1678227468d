"""Where the settings come from: options over RENORM_* over a TOML file over the defaults, and which of them it was."""

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
VARIABLE = "RENORM_CONFIG"
"""The variable that names the file where ``--config`` does not."""

NOT_SETTINGS = frozenset({VARIABLE, "RENORM_CACHE_DIR", "RENORM_KEY", "RENORM_URL"})
"""Variables that other parts read: where compiled code is kept, and what clients send to whom."""

SECRETS = frozenset({"admin_key"})
"""Fields whose values are never shown."""

_SERVICE_LINK = re.compile(r"RENORM_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_[A-Z]+(_\w+)?)")
"""What Kubernetes sets in every container beside a service that is named renorm."""


class ConfigurationError(RenormError):
    """The file cannot be read, or something is set that is no setting."""


class Given(NamedTuple):
    """A value, and where a person wrote it: ``--port``, ``RENORM_PORT`` or ``FILE: port``."""

    value: Any
    source: str


@dataclass(frozen=True)
class Configuration:
    """What was given for each field of the settings; fields that nobody gave are not in it."""

    given: Mapping[str, Given]
    mistakes: tuple[str, ...] = ()
    """A line for each key of the file that is no setting, or cannot be one."""

    def settings(self) -> Settings:
        """The settings themselves, without heed of ``mistakes``.

        Raises:
            ValidationError: of pydantic; `source` tells where each value came from.
        """
        # Also those of the environment, as arguments: so nothing is decided in two places.
        return Settings(**{name: given.value for name, given in self.given.items()})

    def source(self, name: str) -> str:
        """Where the value of a field came from: ``default`` where nobody gave one."""
        return self.given[name].source if name in self.given else "default"


def configuration(options: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Everything that is given: options that are not None, else variables, else keys of the file.

    ``options`` may hold more than fields of the settings. Without ``file``, ``RENORM_CONFIG`` may name one.

    Raises:
        ConfigurationError: the file cannot be read, or is not TOML.
    """
    named = file or _named_file()
    given, mistakes = _from_file(named) if named is not None else ({}, [])
    given |= {name: Given(value, variable) for name, variable, value in _from_variables()}
    for name in Settings.model_fields:
        if options.get(name) is not None:
            given[name] = Given(options[name], f"--{name.replace('_', '-')}")
    return Configuration(given, tuple(mistakes))


def unknown_variables() -> list[str]:
    """A line for every RENORM_* variable that nothing reads, which is most often a misspelt one."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    return [
        f"{variable} is not a setting{_nearest(variable.upper(), known)}"
        for variable in sorted(os.environ)
        if variable.upper().startswith(PREFIX)
        and variable.upper() not in known
        and _SERVICE_LINK.fullmatch(variable) is None
    ]


def _named_file() -> Path | None:
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def _from_variables() -> Iterator[tuple[str, str, str]]:
    """Field, variable and value of each variable that is a setting; in any case, as pydantic-settings reads them."""
    for variable, value in os.environ.items():
        name = variable.lower().removeprefix(PREFIX.lower())
        if name in Settings.model_fields and variable.upper().startswith(PREFIX):
            yield name, variable, value


def _from_file(path: Path) -> tuple[dict[str, Given], list[str]]:
    """The values of a file, and a line for each of its mistakes that a person can see without the values' types."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the configuration {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"the configuration {path} is not valid TOML: {error}") from error
    unknown = [key for key in document if key not in Settings.model_fields]
    said = [f"'{key}' is not a setting{_nearest(key.replace('-', '_'), Settings.model_fields)}" for key in unknown]
    mistakes = [f"{path}: {'; '.join(said)}"] if said else []
    given = {}
    for key, value in document.items():
        if key in unknown:
            continue
        # Pydantic would take true for 1, and a table or a date for nothing; here only the first would go unnoticed.
        if isinstance(value, bool) and bool not in _kinds(key):
            mistakes.append(f"{path}: {key} cannot be {str(value).lower()}")
        else:
            given[key] = Given(_beside(key, value, path.absolute().parent), f"{path}: {key}")
    return given, mistakes


def _kinds(key: str) -> set[Any]:
    accepted = Settings.model_fields[key].annotation
    return {accepted, *get_args(accepted)}


def _beside(key: str, value: Any, folder: Path) -> Any:
    """A value in which paths start in ``folder``: a file means the same wherever the server is started."""
    if not isinstance(value, str):
        return value
    by_file = re.fullmatch(r"python:([^~].*\.py):(\w+)", value) if key == "model" else None
    if by_file is not None:
        return f"python:{folder / by_file[1]}:{by_file[2]}"
    return folder / value if Path in _kinds(key) else value


def _nearest(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, list(known), n=1)
    return f": did you mean {found[0]}?" if found else "; `renorm config` lists them all"
