"""`renorm key`: make, list and remove the keys that callers of a server send."""

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
    help="Make, list and remove API keys. A running server takes up changes within a second.",
    epilog=KEY_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="File of keys; by default that of the settings, or keys.toml.", metavar="FILE"),
]


@keys.command()
def new(
    name: Annotated[str, typer.Option("--name", help="What the key is for, such as dashboard.", metavar="NAME")],
    scopes: Annotated[
        str, typer.Option("--scopes", help="infer, or infer,admin; admin includes infer.", metavar="SCOPES")
    ] = "infer",
    file: _FileOption = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it is valid, such as 12h, 90d or 8w.", metavar="TIME")
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option("--streams", help="Bind it to streams whose names begin so: tenant-a-.", metavar="PREFIX,..."),
    ] = None,
) -> None:
    """Make a key, add its hash to the file, and print the key: this once, because it is kept nowhere."""
    path = _path(file)
    prefixes = () if streams is None else tuple(word.strip() for word in streams.split(","))
    try:
        check_name(name)
        check_prefixes(prefixes)
    except KeyFileError as error:
        fail(f"{error.message}; {error.hint}", status=BAD_OPTION)
    secret, made = new_key(name, _scopes(scopes), _expiry(expires), prefixes)
    known = _read(path) if path.exists() else ()
    if any(key.name == name for key in known):
        fail(f"{path} already has a key '{name}': choose another name, or remove it first", status=BAD_OPTION)
    _write(path, (*known, made))
    typer.echo(f"Added key '{name}' to {path}. It is shown only now; send it as 'Authorization: Bearer KEY':", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(file: _FileOption = None) -> None:
    """List the keys of a file: names, scopes, times; the keys themselves are not in it."""
    path = _path(file)
    now = datetime.now(UTC)
    rows = [_row(key, now) for key in _read(path)]
    show(f"Keys of {path}", ["name", "scopes", "streams", "created", "expires"], rows)


@keys.command()
def remove(
    name: Annotated[str, typer.Argument(help="The key to remove.", metavar="NAME")], file: _FileOption = None
) -> None:
    """Remove a key: calls that send it are refused from then on."""
    path = _path(file)
    known = _read(path)
    kept = [key for key in known if key.name != name]
    if len(kept) == len(known):
        has = ", ".join(key.name for key in known) or "none"
        fail(f"{path} has no key '{name}'; it has {has}", status=BAD_OPTION)
    _write(path, kept)
    typer.echo(f"Removed key '{name}' from {path}.")


def _row(key: ApiKey, now: datetime) -> list[str]:
    streams = ", ".join(key.streams) or "all"
    return [key.name, ", ".join(sorted(key.scopes)), streams, _when(key.created), _validity(key, now)]


def _path(file: Path | None) -> Path:
    return file or settings_from({}).keys or Path("keys.toml")


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        return read_keys(path)
    except KeyFileError as error:
        fail(f"{error.message}; {error.hint}" if error.hint else error.message, status=CANNOT_RUN)


def _write(path: Path, known: tuple[ApiKey, ...] | list[ApiKey]) -> None:
    try:
        write_keys(path, known)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror or error}", status=CANNOT_RUN)


def _scopes(text: str) -> list[KeyScope]:
    named = [word.strip() for word in text.split(",")]
    if any(one not in SCOPES for one in named):
        fail(f"--scopes must be infer, admin or both with a comma, not {text!r}", status=BAD_OPTION)
    return cast("list[KeyScope]", named)


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if found is None or int(found[1]) == 0:
        fail(
            f"--expires must be a number of hours, days or weeks, such as 12h, 90d or 8w, not {text!r}",
            status=BAD_OPTION,
        )
    return datetime.now(UTC).replace(microsecond=0) + int(found[1]) * _UNITS[found[2]]


def _when(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _validity(key: ApiKey, now: datetime) -> str:
    if key.expires is None:
        return "never"
    return f"{_when(key.expires)}{' (expired)' if key.is_expired(now) else ''}"
