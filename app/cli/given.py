"""From options to settings, and from what goes wrong to one clear line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.settings import Settings

BAD_OPTION = 2
CANNOT_RUN = 1

_TRIPLES = {"mean", "std"}
_SECRETS = {"admin_key"}


def fail(*lines: str, status: int) -> NoReturn:
    """Print each line to standard error and end with that exit status."""
    for line in lines:
        typer.echo(f"renorm: {line}", err=True)
    raise typer.Exit(status)


def settings_from(given: Mapping[str, Any]) -> Settings:
    """The settings of a command: its options over RENORM_* over the defaults. Ends the program if they do not fit.

    ``given`` may hold more than fields of the settings; what is None was not given.
    """
    options = {name: given[name] for name in Settings.model_fields if given.get(name) is not None}
    try:
        return Settings(**options)
    except ValidationError as error:
        wrong = {str(one["loc"][0]): str(one["msg"]) for one in reversed(error.errors())}
        fail(*(_problem(name, message, options) for name, message in wrong.items()), status=BAD_OPTION)
    except SettingsError as error:
        fail(f"a RENORM_* variable cannot be read: {error}", status=BAD_OPTION)


def _problem(name: str, message: str, options: Mapping[str, Any]) -> str:
    """One line: which option or variable, what it must be, what it is."""
    variable = f"RENORM_{name.upper()}"
    is_option = name in options
    value = options[name] if is_option else os.environ.get(variable, "")
    shown = "" if name in _SECRETS else f", not {str(value)!r}"
    return f"{_option(name) if is_option else variable} {_expectation(name, message)}{shown}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _expectation(name: str, message: str) -> str:
    if name in _TRIPLES:
        return "must be three numbers, such as 0.5,0.5,0.5"
    if name in _SECRETS:
        return "must have at least 8 characters"
    _, said, rest = message.partition("should ")
    return f"must {rest.partition(', unable')[0]}" if said else f"is not valid ({message})"
