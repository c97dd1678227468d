"""Settings from options, and one-line messages for errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.auth.access import Access
from app.auth.keys import KeyFileError
from app.configuration import SECRETS, Configuration, ConfigurationError, configuration, unknown_variables
from app.settings import Settings

BAD_OPTION = 2
CANNOT_RUN = 1

_TRIPLES = {"mean", "std"}


def fail(*lines: str, status: int) -> NoReturn:
    """Print each line to standard error and exit with ``status``."""
    for line in lines:
        typer.echo(f"renorm: {line}", err=True)
    raise typer.Exit(status)


def settings_from(options: Mapping[str, Any], *, strict: bool = False) -> Settings:
    """Return the settings of a command, see `configured`."""
    return configured(options, strict=strict)[0]


def configured(options: Mapping[str, Any], *, strict: bool = False) -> tuple[Settings, Configuration]:
    """Return the settings of a command and their sources, or end the program with a line for each mistake.

    ``strict`` takes unknown RENORM_* variables for mistakes too.
    ``options`` are its options: ``config`` may be the file of settings, None means "not set", and others are ignored.
    """
    try:
        result = configuration(options, options.get("config"))
    except ConfigurationError as error:
        fail(str(error), status=BAD_OPTION)
    mistakes = [*result.mistakes, *(unknown_variables() if strict else ())]
    try:
        settings = result.settings()
    except ValidationError as error:
        wrong = {str(problem["loc"][0]): str(problem["msg"]) for problem in reversed(error.errors())}
        mistakes += [_problem(name, message, result) for name, message in wrong.items()]
    except SettingsError as error:
        mistakes.append(f"a RENORM_* variable cannot be read: {error}")
    if mistakes:
        fail(*mistakes, status=BAD_OPTION)
    return settings, result


def access_of(settings: Settings) -> Access:
    """Return the access rules of a server; end the program if its keys cannot be read, or if it has none and listens
    beyond this machine."""
    try:
        access = Access(settings)
    except KeyFileError as error:
        fail(error.line, status=BAD_OPTION)
    refusal = access.refusal()
    if refusal:
        fail(refusal, status=BAD_OPTION)
    return access


def _problem(name: str, message: str, result: Configuration) -> str:
    """Return one line: the option, variable or key of a file, the expected value and the actual one."""
    value, source = result.values[name]
    actual = "" if name in SECRETS else f", not {str(value)!r}"
    if source == "RENORM_PORT" and str(value).startswith("tcp://"):
        actual += " (Kubernetes sets it for a service named renorm; enableServiceLinks: false prevents that)"
    return f"{source} {_expectation(name, message)}{actual}"


def _expectation(name: str, message: str) -> str:
    if name in _TRIPLES:
        return "must be three numbers, such as 0.5,0.5,0.5, or one number"
    if name in SECRETS:
        return "must have at least 8 characters"
    _, separator, expectation = message.partition("should ")
    return f"must {expectation.partition(', unable')[0]}" if separator else f"is not valid ({message})"
