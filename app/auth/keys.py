"""API keys in a file: their names, scopes and hashes, never the keys themselves; re-read while the server runs.

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
import os
import re
import secrets
import shlex
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from app.errors import RenormError

KeyScope = Literal["infer", "admin"]
"""What a key is for: ``infer`` reads and predicts, ``admin`` also changes what others see."""

SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
PREFIX = "renorm_"
"""How each key begins, so that people and secret scanners recognize one that leaked."""

CHECK_S = 1.0
"""Seconds between two looks at the file."""

_FIELDS = {"name", "scopes", "hash", "created", "expires", "streams"}
_log = logging.getLogger("renorm")


class KeyFileError(RenormError):
    """A file of keys that cannot be read, or holds what is not a key."""


@dataclass(frozen=True)
class ApiKey:
    """What is kept of one key. ``digest`` is 32 bytes; ``expires`` is None where it never does."""

    name: str
    scopes: frozenset[KeyScope]
    digest: bytes
    created: datetime | None = None
    expires: datetime | None = None
    streams: tuple[str, ...] = ()  # how the names begin of those that it is for; empty: all

    def covers(self, stream: str | None) -> bool:
        """Whether the key is for a stream, or for all (None)."""
        return not self.streams or (stream is not None and stream.startswith(self.streams))

    def may(self, scope: KeyScope) -> bool:
        """Whether calls of this scope are allowed: admin includes infer."""
        return scope in self.scopes or "admin" in self.scopes

    def expired(self, now: datetime) -> bool:
        """Whether the key is no longer valid at that time."""
        return self.expires is not None and self.expires <= now


def digest(key: bytes) -> bytes:
    """SHA-256 of a key: 32 bytes.

    Slow hashes such as Argon2 are for passwords, which can be guessed. A key of 256 random bits cannot, so a fast hash
    hides it as well, and costs a request a microsecond.
    """
    return hashlib.sha256(key).digest()


def new_key(
    name: str, scopes: Iterable[KeyScope], expires: datetime | None = None, streams: Iterable[str] = ()
) -> tuple[str, ApiKey]:
    """A random key of 256 bits, and what is kept of it; ``streams`` binds it to those whose names begin like that."""
    secret = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).replace(microsecond=0)
    prefixes = check_prefixes(streams)
    return secret, ApiKey(check_name(name), frozenset(scopes), digest(secret.encode()), created, expires, prefixes)


def check_name(name: object) -> str:
    """The name itself, if a key may have it.

    Raises:
        KeyFileError: it is not 1 to 64 of the characters that need no quoting anywhere.
    """
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is None:
        raise KeyFileError(f"a key cannot be named {name!r}", hint="use 1 to 64 letters, digits, '.', '_' and '-'")
    return name


def check_prefixes(prefixes: object) -> tuple[str, ...]:
    """The prefixes of streams' names that a key is bound to, without the ``*`` that people write behind them.

    Raises:
        KeyFileError: they are not texts, or one is empty and would bind to nothing.
    """
    words = list(prefixes) if isinstance(prefixes, Iterable) and not isinstance(prefixes, str) else [prefixes]
    names = tuple(word.removesuffix("*") if isinstance(word, str) else "" for word in words)
    if not all(re.fullmatch(r'[^\x00-\x1f"\\*]{1,128}', name) for name in names):
        raise KeyFileError(
            f"a key cannot be bound to {words}", hint="give how the streams' names begin, such as tenant-a-"
        )
    return names


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """All keys of a file, also those that have expired.

    Raises:
        KeyFileError: the file is missing, is not TOML, or an entry is not a key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "make one with: renorm key new --name NAME --file FILE"
        raise KeyFileError(f"the keys {path} cannot be read: {error.strerror or error}", hint=hint) from error
    except ValueError as error:
        raise KeyFileError(f"the keys {path} are not valid TOML: {error}") from error
    entries = document.get("key", [])
    if set(document) - {"key"} or not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise KeyFileError(f"the keys {path} must be [[key]] tables and nothing else")
    try:
        keys = tuple(_parsed(entry, number) for number, entry in enumerate(entries, 1))
        _check_names(keys)
    except KeyFileError as error:
        raise KeyFileError(f"the keys {path}: {error.message}", hint=error.hint) from error
    return keys


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Write a file of keys that only its owner can read. Readers see the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written to.
    """
    # Made with mode 0600, in the same folder, because only there can it take the old file's place in one step.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("# Keys of a Renorm server, kept by `renorm key`. The hashes do not tell the keys.\n")
            file.writelines(_table(key) for key in keys)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class KeyFile:
    """The keys of a file as they are now: the file is looked at once a second at most, and read when it changed.

    A file that is broken or gone changes nothing: the keys that were read last stay valid, and the log says why.

    Raises:
        KeyFileError: the file cannot be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen, self._keys = _signature(path), read_keys(path)
        self._checked = time.monotonic()
        _warn_of_readers(path)

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """What is valid now, expired keys included."""
        now = time.monotonic()
        if now - self._checked >= CHECK_S:
            self._checked = now
            self._refresh()
        return self._keys

    def _refresh(self) -> None:
        seen = _signature(self.path)
        if seen == self._seen:
            return
        self._seen = seen
        _warn_of_readers(self.path)
        try:
            self._keys = read_keys(self.path)
        except KeyFileError as error:
            _log.error("%s; the keys read before stay valid", error.message)
        else:
            _log.warning("keys read again from %s: %s", self.path, ", ".join(key.name for key in self._keys) or "none")


def _warn_of_readers(path: Path) -> None:
    """Log the command that closes a file which other accounts can read: hashes hide keys, not names and scopes."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        command = f"chmod 600 {shlex.quote(str(path))}"
        _log.warning("other accounts of this machine can open the keys %s (mode %03o): %s", path, mode, command)


def _signature(path: Path) -> tuple[int, int, int] | None:
    """What differs when a file was written or replaced. Not its time alone, which may be as coarse as seconds."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _parsed(entry: dict[str, Any], number: int) -> ApiKey:
    unknown = sorted(set(entry) - _FIELDS)
    if unknown:
        hint = "known are name, scopes, hash, created, expires and streams"
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
        raise KeyFileError("the streams of a key must be a list of how their names begin")
    return check_prefixes(streams)


def _time(value: object, field: str, name: str) -> datetime | None:
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise KeyFileError(f"'{field}' of key '{name}' must be a time with its zone, such as 2026-01-31T12:00:00Z")
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
    return "\n".join([*lines, *(f"{field} = {when.isoformat()}" for field, when in times.items() if when)]) + "\n"
