"""From options to settings, and from what goes wrong to one clear line."""

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
    """Print each line to standard error and end with that exit status."""
    for line in lines:
        typer.echo(f"renorm: {line}", err=True)
    raise typer.Exit(status)


def settings_from(given: Mapping[str, Any], *, strict: bool = False) -> Settings:
    """The settings of a command, see `configured`."""
    return configured(given, strict=strict)[0]


def configured(given: Mapping[str, Any], *, strict: bool = False) -> tuple[Settings, Configuration]:
    """The settings of a command, and where each comes from. Ends the program, with a line for each mistake, if they do
    not fit; with ``strict`` also if there is a RENORM_* variable that nothing reads.

    ``given`` are its options: ``config`` may be the file of settings, what is None was not given, and it may hold more.
    """
    try:
        found = configuration(given, given.get("config"))
    except ConfigurationError as error:
        fail(str(error), status=BAD_OPTION)
    mistakes = [*found.mistakes, *(unknown_variables() if strict else ())]
    try:
        settings = found.settings()
    except ValidationError as error:
        wrong = {str(one["loc"][0]): str(one["msg"]) for one in reversed(error.errors())}
        mistakes += [_problem(name, message, found) for name, message in wrong.items()]
    except SettingsError as error:
        mistakes.append(f"a RENORM_* variable cannot be read: {error}")
    if mistakes:
        fail(*mistakes, status=BAD_OPTION)
    return settings, found


def access_of(settings: Settings) -> Access:
    """Who may call a server with these settings. Ends the program where its keys cannot be read, or where it has none
    and would listen beyond this machine."""
    try:
        access = Access(settings)
    except KeyFileError as error:
        fail(f"{error.message}; {error.hint}" if error.hint else error.message, status=BAD_OPTION)
    refusal = access.refusal()
    if refusal:
        fail(refusal, status=BAD_OPTION)
    return access


def _problem(name: str, message: str, found: Configuration) -> str:
    """One line: which option, variable or key of a file, what it must be, what it is."""
    value, source = found.values[name]
    shown = "" if name in SECRETS else f", not {str(value)!r}"
    if source == "RENORM_PORT" and str(value).startswith("tcp://"):
        shown += " (Kubernetes sets it beside a service named renorm; enableServiceLinks: false keeps it from that)"
    return f"{source} {_expectation(name, message)}{shown}"


def _expectation(name: str, message: str) -> str:
    if name in _TRIPLES:
        return "must be three numbers, such as 0.5,0.5,0.5, or one"
    if name in SECRETS:
        return "must have at least 8 characters"
    _, said, rest = message.partition("should ")
    return f"must {rest.partition(', unable')[0]}" if said else f"is not valid ({message})"
