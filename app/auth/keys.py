"""API keys in a file: names, scopes and hashes, never the keys themselves; reloaded while the server runs.

The file is TOML, one table for each key:

    [[key]]
    name = "dashboard"
    scopes = ["infer"]
    hash = "sha256:9f86d081..."
    created = 2026-01-31T12:00:00Z
    expires = 2026-05-01T12:00:00Z   # may be left out
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import shlex
import stat
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from app.errors import RenormError
from app.files import file_fingerprint, replace_file

KeyScope = Literal["infer", "admin"]
"""The scope of a key: ``infer`` reads and predicts, ``admin`` also changes the state that others see."""

SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
PREFIX = "renorm_"
"""The prefix of each key, by which people and secret scanners recognize a leaked one."""

CHECK_S = 1.0
"""Seconds between two checks of the file."""

_FIELDS = {"name", "scopes", "hash", "created", "expires", "streams"}
_log = logging.getLogger("renorm")


class KeyFileError(RenormError):
    """The key file cannot be read, or contains an invalid key."""


@dataclass(frozen=True)
class ApiKey:
    """The stored record of one key. ``digest`` is 32 bytes; ``expires`` is None where it never does."""

    name: str
    scopes: frozenset[KeyScope]
    digest: bytes
    created: datetime | None = None
    expires: datetime | None = None
    streams: tuple[str, ...] = ()  # prefixes of the stream names that it is for; empty: all

    def covers(self, stream: str | None) -> bool:
        """Return whether the key is for a stream, or for all (None)."""
        return not self.streams or (stream is not None and stream.startswith(self.streams))

    def allows(self, scope: KeyScope) -> bool:
        """Return whether calls of this scope are allowed: admin includes infer."""
        return scope in self.scopes or "admin" in self.scopes

    def is_expired(self, timestamp: datetime) -> bool:
        """Return whether the key is no longer valid at that time."""
        return self.expires is not None and self.expires <= timestamp


def digest(key: bytes) -> bytes:
    """Return the SHA-256 of a key: 32 bytes.

    Slow hashes such as Argon2 are for passwords, which can be guessed. A key of 256 random bits cannot, so a fast hash
    hides it as well, and costs a request a microsecond.
    """
    return hashlib.sha256(key).digest()


def new_key(
    name: str, scopes: Iterable[KeyScope], expires: datetime | None = None, streams: Iterable[str] = ()
) -> tuple[str, ApiKey]:
    """Create a random key of 256 bits and its record; ``streams`` binds it to streams with those name prefixes."""
    secret = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).replace(microsecond=0)
    prefixes = check_prefixes(streams)
    return secret, ApiKey(check_name(name), frozenset(scopes), digest(secret.encode()), created, expires, prefixes)


def check_name(name: object) -> str:
    """Return the name if it is valid for a key.

    Raises:
        KeyFileError: it is not 1 to 64 characters that need no quoting anywhere.
    """
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is None:
        raise KeyFileError(f"a key cannot be named {name!r}", hint="use 1 to 64 letters, digits, '.', '_' and '-'")
    return name


def check_prefixes(prefixes: object) -> tuple[str, ...]:
    """Return the stream name prefixes that a key is bound to, without the ``*`` that people append.

    Raises:
        KeyFileError: a prefix is not a string, or is empty and would bind to nothing.
    """
    words = list(prefixes) if isinstance(prefixes, Iterable) and not isinstance(prefixes, str) else [prefixes]
    names = tuple(word.removesuffix("*") if isinstance(word, str) else "" for word in words)
    if not all(re.fullmatch(r'[^\x00-\x1f"\\*]{1,128}', name) for name in names):
        raise KeyFileError(f"a key cannot be bound to {words}", hint="use prefixes of stream names, such as tenant-a-")
    return names


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read all keys of a file, including expired ones.

    Raises:
        KeyFileError: the file is missing, is not TOML, or an entry is not a key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "create one with: renorm key new --name NAME --file FILE"
        raise KeyFileError(f"the key file {path} cannot be read: {error.strerror or error}", hint=hint) from error
    except ValueError as error:
        raise KeyFileError(f"the key file {path} is not valid TOML: {error}") from error
    entries = document.get("key", [])
    are_tables = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    if set(document) - {"key"} or not are_tables:
        raise KeyFileError(f"the key file {path} must contain [[key]] tables and nothing else")
    try:
        keys = tuple(_parsed(entry, number) for number, entry in enumerate(entries, 1))
        _check_names(keys)
    except KeyFileError as error:
        raise KeyFileError(f"the key file {path}: {error.message}", hint=error.hint) from error
    return keys


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Write a key file that only its owner can read. Readers see the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written to.
    """
    head = "# Keys of a Renorm server, managed by `renorm key`. The hashes do not reveal the keys.\n"
    replace_file(path, head + "".join(map(_table, keys)), 0o600)


class KeyFile:
    """The current keys of a file, which is checked at most once a second and reloaded when it changed.

    An invalid or missing file changes nothing: the keys that were loaded last stay valid, and the log says why.

    Raises:
        KeyFileError: the file cannot be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fingerprint, self._keys = file_fingerprint(path), read_keys(path)
        self._checked = time.monotonic()
        _warn_of_readers(path)

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The current keys, including expired ones."""
        timestamp = time.monotonic()
        if timestamp - self._checked >= CHECK_S:
            self._checked = timestamp
            self._refresh()
        return self._keys

    def _refresh(self) -> None:
        fingerprint = file_fingerprint(self.path)
        if fingerprint == self._fingerprint:
            return
        self._fingerprint = fingerprint
        _warn_of_readers(self.path)
        try:
            self._keys = read_keys(self.path)
        except KeyFileError as error:
            _log.error("%s; the keys loaded before stay valid", error.message)
        else:
            _log.warning("keys reloaded from %s: %s", self.path, ", ".join(key.name for key in self._keys) or "none")


def _warn_of_readers(path: Path) -> None:
    """Log how to protect a file that other accounts can read: hashes hide keys, but not names and scopes."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        command = f"chmod 600 {shlex.quote(str(path))}"
        _log.warning(
            "other accounts of this machine can read the key file %s (mode %03o); protect it: %s", path, mode, command
        )


def _parsed(entry: dict[str, Any], number: int) -> ApiKey:
    unknown = sorted(set(entry) - _FIELDS)
    if unknown:
        hint = "the fields are name, scopes, hash, created, expires and streams"
        raise KeyFileError(f"key {number} has an unknown field '{unknown[0]}'", hint=hint)
    name = check_name(entry.get("name"))
    scopes = entry.get("scopes")
    if not isinstance(scopes, list) or not scopes or any(scope not in SCOPES for scope in scopes):
        raise KeyFileError(f"the scopes of key '{name}' must be a list of 'infer' and 'admin'")
    hashed = entry.get("hash")
    if not isinstance(hashed, str) or re.fullmatch(r"sha256:[0-9a-f]{64}", hashed) is None:
        raise KeyFileError(f"the hash of key '{name}' must be 'sha256:' and 64 hexadecimal digits")
    created, expires = (_time(entry.get(field), field, name) for field in ("created", "expires"))
    scope_set, hash_bytes = frozenset(cast("list[KeyScope]", scopes)), bytes.fromhex(hashed.partition(":")[2])
    return ApiKey(name, scope_set, hash_bytes, created, expires, _streams(entry))


def _streams(entry: dict[str, Any]) -> tuple[str, ...]:
    streams = entry.get("streams", [])
    if not isinstance(streams, list):
        raise KeyFileError("the streams of a key must be a list of name prefixes")
    return check_prefixes(streams)


def _time(value: object, field: str, name: str) -> datetime | None:
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise KeyFileError(f"'{field}' of key '{name}' must be a time with a time zone, such as 2026-01-31T12:00:00Z")
    return value


def _check_names(keys: Iterable[ApiKey]) -> None:
    names: set[str] = set()
    for key in keys:
        if key.name in names:
            raise KeyFileError(f"two keys are named '{key.name}'", hint="rename or remove one")
        names.add(key.name)


def _table(key: ApiKey) -> str:
    # Names, scopes and hashes hold no character that TOML would need escaped.
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES if scope in key.scopes)
    lines = ["\n[[key]]", f'name = "{key.name}"', f"scopes = [{scopes}]", f'hash = "sha256:{key.digest.hex()}"']
    if key.streams:
        lines.append(f"streams = [{', '.join(json.dumps(prefix, ensure_ascii=False) for prefix in key.streams)}]")
    times = {"created": key.created, "expires": key.expires}
    return "\n".join([*lines, *(f"{field} = {moment.isoformat()}" for field, moment in times.items() if moment)]) + "\n"
