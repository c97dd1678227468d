"""`renorm key`: create, list and remove the API keys of a server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast

import typer

from app.auth.keys import (
    SCOPES,
    ApiKey,
    KeyFileError,
    KeyScope,
    check_name,
    check_prefixes,
    new_key,
    read_keys,
    write_keys,
)
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail, settings_from
from app.cli.tables import show

KEY_EXAMPLES = """\
Examples:

* `renorm key new --name dashboard`

* `renorm key new --name ops --scopes infer,admin --expires 90d --file keys.toml`

* `renorm key list`

* `renorm key remove dashboard`
"""

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

keys = typer.Typer(
    name="key",
    help="Create, list and remove API keys. A running server applies changes within a second.",
    epilog=KEY_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_FileOption = Annotated[
    Path | None, typer.Option("--file", help="Key file; that of the settings by default, or keys.toml.", metavar="FILE")
]


@keys.command(epilog="Example: `renorm key new --name ops --scopes infer,admin --expires 90d --file keys.toml`")
def new(
    name: Annotated[str, typer.Option("--name", help="Name of the key, such as dashboard.", metavar="NAME")],
    scopes: Annotated[
        str, typer.Option("--scopes", help="infer, or infer,admin; admin includes infer.", metavar="SCOPES")
    ] = "infer",
    file: _FileOption = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="Lifetime of the key, such as 12h, 90d or 8w.", metavar="TIME")
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option("--streams", help="Restrict it to streams with these prefixes: tenant-a-.", metavar="PREFIX,..."),
    ] = None,
) -> None:
    """Create a key, add its hash to the file, and print the key. It is printed only once and stored nowhere."""
    path = _path(file)
    prefixes = () if streams is None else tuple(word.strip() for word in streams.split(","))
    try:
        check_name(name)
        check_prefixes(prefixes)
    except KeyFileError as error:
        fail(error.line, status=BAD_OPTION)
    secret, created = new_key(name, _scopes(scopes), _expiry(expires), prefixes)
    existing = _read(path) if path.exists() else ()
    if any(key.name == name for key in existing):
        fail(f"{path} already has a key '{name}': choose another name, or remove it first", status=BAD_OPTION)
    _write(path, (*existing, created))
    typer.echo(f"Added key '{name}' to {path}. It is shown once; send it as 'Authorization: Bearer KEY':", err=True)
    typer.echo(secret)


@keys.command("list", epilog="Example: `renorm key list --file keys.toml`")
def list_keys(file: _FileOption = None) -> None:
    """List the keys of a file: names, scopes, streams and times; the file does not contain the keys themselves."""
    path = _path(file)
    timestamp = datetime.now(UTC)
    rows = [_row(key, timestamp) for key in _read(path)]
    show(f"Keys of {path}", ["name", "scopes", "streams", "created", "expires"], rows)


@keys.command(epilog="Example: `renorm key remove dashboard`")
def remove(
    name: Annotated[str, typer.Argument(help="The key to remove.", metavar="NAME")], file: _FileOption = None
) -> None:
    """Remove a key: requests with it are rejected from then on."""
    path = _path(file)
    existing = _read(path)
    remaining = [key for key in existing if key.name != name]
    if len(remaining) == len(existing):
        names = ", ".join(key.name for key in existing) or "none"
        fail(f"{path} has no key '{name}'; its keys: {names}", status=BAD_OPTION)
    _write(path, remaining)
    typer.echo(f"Removed key '{name}' from {path}.")


def _row(key: ApiKey, timestamp: datetime) -> list[str]:
    streams = ", ".join(key.streams) or "all"
    return [key.name, ", ".join(sorted(key.scopes)), streams, _time(key.created), _validity(key, timestamp)]


def _path(file: Path | None) -> Path:
    return file or settings_from({}).keys or Path("keys.toml")


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        return read_keys(path)
    except KeyFileError as error:
        fail(error.line, status=CANNOT_RUN)


def _write(path: Path, keys: tuple[ApiKey, ...] | list[ApiKey]) -> None:
    try:
        write_keys(path, keys)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror or error}", status=CANNOT_RUN)


def _scopes(text: str) -> list[KeyScope]:
    names = [word.strip() for word in text.split(",")]
    if any(name not in SCOPES for name in names):
        fail(f"--scopes must be infer, admin or infer,admin, not {text!r}", status=BAD_OPTION)
    return cast("list[KeyScope]", names)


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if match is None or int(match[1]) == 0:
        fail(
            f"--expires must be a number with the unit h, d or w, such as 12h, 90d or 8w, not {text!r}",
            status=BAD_OPTION,
        )
    return datetime.now(UTC).replace(microsecond=0) + int(match[1]) * _UNITS[match[2]]


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _validity(key: ApiKey, timestamp: datetime) -> str:
    if key.expires is None:
        return "never"
    return f"{_time(key.expires)}{' (expired)' if key.is_expired(timestamp) else ''}"
