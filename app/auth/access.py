"""Access control: calls need a key of the right scope; without keys only local programs may call."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import urlsplit

from app.auth.keys import ApiKey, KeyFile, KeyScope, digest
from app.errors import AccessError, MissingKeyError
from app.settings import Settings

ADMIN_KEY_NAME = "RENORM_ADMIN_KEY"
"""The name of the key from the settings, in addition to those of the file."""

PATHS: tuple[tuple[str, KeyScope | None], ...] = (
    ("/healthz", None),
    ("/readyz", None),
    ("/v2/health", None),
    ("/docs", None),
    ("/redoc", None),
    ("/static-offline-docs", None),
    ("/openapi.json", None),
    ("/v1/admin", "admin"),
    ("/v2/repository/models", "admin"),
)
"""The scope of a path and of all below it; None is open. The first matching row counts, and ``/`` itself is open.
A path that is not listed needs ``infer``, so that a forgotten door is closed rather than open."""

_SEND_KEY = "send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'"
_MAKE_KEY = (
    "create a key with `renorm key new` and restart with --keys FILE, or set RENORM_ADMIN_KEY; then " + _SEND_KEY
)


_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def required_scope(path: str) -> KeyScope | None:
    """Return the scope that calls to a path need, None where they need none."""
    if path == "/":
        return None
    return next((scope for top, scope in PATHS if path == top or path.startswith(f"{top}/")), "infer")


@lru_cache(1024)
def _host_name(host: str) -> str | None:
    """Return the name in a Host header without its port, None where invalid; cached, because clients repeat it."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def presented_keys(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the keys in a request's headers (names in lower case): a bearer token, an ``X-API-Key``, or both."""
    keys: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() == b"bearer":
                keys.setdefault(name, credentials.strip())
        elif name == b"x-api-key":
            keys.setdefault(name, value.strip())
    return [key for key in keys.values() if key]


class Access:
    """The access rules of one server.

    With a key set (``admin_key``, ``keys`` or both) every call with a `required_scope` needs a key of that scope.
    Without one a server that listens on this machine only is open to local programs: calls that change anything, and
    WebSockets, are refused to foreign web pages in local browsers, and so is every call under a foreign host name,
    which a page could have made to resolve to this machine (DNS rebinding). A server that listens beyond is closed,
    or, if ``insecure``, open except for admin calls.

    Raises:
        KeyFileError: the file of keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._host, self._loopback, self._insecure = settings.host, settings.loopback, settings.insecure
        self._pages = frozenset(settings.cors_origins)
        self._names = _LOOPBACK_NAMES | {settings.host.strip("[]").lower(), *settings.allowed_hosts}
        self._file = None if settings.keys is None else KeyFile(settings.keys)
        key = settings.admin_key
        admin = frozenset[KeyScope](["infer", "admin"])
        self._admin_keys = (
            () if key is None else (ApiKey(ADMIN_KEY_NAME, admin, digest(key.get_secret_value().encode())),)
        )
        self.keyed = self._file is not None or bool(self._admin_keys)

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """All keys, including expired ones."""
        return self._admin_keys if self._file is None else self._admin_keys + self._file.keys

    def check(
        self,
        scope: KeyScope | None,
        keys: Sequence[bytes],
        origin: str | None = None,
        host: str | None = None,
        *,
        changes: bool = False,
        websocket: bool = False,
    ) -> ApiKey | None:
        """Check that a call of that scope is allowed, and return its key, if it needs one.

        ``keys`` are those of the call, see `presented_keys`; ``origin`` and ``host`` are its headers of that name as
        text, None for other protocols than HTTP. ``changes`` says whether the call may change a stream or anything
        else, as every method but GET, HEAD and OPTIONS may.

        Raises:
            MissingKeyError: a key is required and none was sent.
            AccessError: no sent key is valid and of that scope; or the server has no keys and the call may be foreign.
        """
        if scope is None:
            return None
        if self.keyed:
            return self._matching_key(scope, keys)
        if not self._loopback and (scope == "admin" or not self._insecure):
            subject = "admin calls are" if scope == "admin" else "access is"
            raise AccessError(f"{subject} denied: the server is open to other machines and has no key", hint=_MAKE_KEY)
        self._check_host(host)
        self._check_page(scope, origin, host, changes=changes, websocket=websocket)
        return None

    def check_stream(
        self, keys: Sequence[bytes], stream: str | None, *, scope: KeyScope = "infer", forgets: bool = False
    ) -> None:
        """Check that a call that has passed `check` may use that stream, or all streams (None).

        A key that is bound to streams may use those alone; of several keys one must allow both the call's scope and the
        stream. Resetting a stream, as ``sequence_start`` and ``sequence_end`` of the Open Inference Protocol do, needs
        scope admin or a key that is bound to the stream.

        Raises:
            AccessError: no sent key is for that stream, or none may reset it; or it has expired since `check`.
        """
        if not self.keyed:
            return
        valid = self.valid_keys(keys)
        if not valid:
            raise AccessError("the key is no longer valid", hint="create a new one with `renorm key new`")
        fitting = [key for key in valid if key.covers(stream) and key.allows(scope)]
        if not fitting:
            names = ", ".join(f"'{key.name}'" for key in valid)
            subject = "all streams" if stream is None else f"stream '{stream}'"
            raise AccessError(f"key {names} is not for {subject}", hint="send a key for this stream or for all")
        if forgets and not any(key.streams or key.allows("admin") for key in fitting):
            raise AccessError(
                f"key '{fitting[0].name}' may not reset a stream, as sequence_start and sequence_end do",
                hint="omit them, or send a key of scope admin or one for streams of this prefix "
                "(renorm key new --streams PREFIX)",
            )

    def valid_keys(self, keys: Sequence[bytes]) -> list[ApiKey]:
        """Return the records of the keys that a call presents, without expired ones."""
        timestamp = datetime.now(UTC)
        return [key for key in self._matches(keys) if not key.is_expired(timestamp)]

    def _check_host(self, host: str | None) -> None:
        """Refuse foreign host names on this machine: a web page may have made them resolve to it."""
        if host is None or not self._loopback:
            return
        if _host_name(host) not in self._names:
            raise AccessError(
                f"host name {host[:100]!r} is not allowed",
                hint="use localhost or 127.0.0.1, allow the name with --allowed-hosts, or set a key",
            )

    def _check_page(
        self, scope: KeyScope, origin: str | None, host: str | None, *, changes: bool, websocket: bool
    ) -> None:
        """Refuse calls from other web pages, except reads, whose answers browsers withhold from them."""
        if origin is None or not (changes or websocket or scope == "admin") or self._is_allowed_page(origin, host):
            return
        subject = "WebSockets" if websocket else "admin calls" if scope == "admin" else "calls that change a stream"
        hint = f"call from a program, allow the page with --cors-origins, or {_MAKE_KEY}"
        raise AccessError(f"{subject} from pages of other origins are refused", hint=hint)

    def summary(self) -> str:
        """Describe the access rules in one line for the operator."""
        if self.keyed:
            timestamp = datetime.now(UTC)
            valid = sum(not key.is_expired(timestamp) for key in self.keys)
            return f"Access: calls need a key; {valid} {'is' if valid == 1 else 'are'} valid."
        if self._loopback:
            return "Access: open to every program on this machine; no keys are set."
        return "Access: open to everyone who reaches this machine, except admin calls; no keys are set (--insecure)."

    def refusal(self) -> str:
        """Return the reason why this server must not start, with a hint; empty if it may."""
        if self._loopback or self.keyed or self._insecure:
            return ""
        return (
            f"--host {self._host} accepts calls from other machines, and no key is set: create one with "
            "`renorm key new --name NAME --file keys.toml` and add --keys keys.toml, set RENORM_ADMIN_KEY, "
            "or add --insecure to let everyone predict"
        )

    def _matching_key(self, scope: KeyScope, keys: Sequence[bytes]) -> ApiKey:
        if not keys:
            raise MissingKeyError(f"this call needs a key with scope '{scope}'", hint=_SEND_KEY)
        matches = self._matches(keys)
        if not matches:
            raise AccessError(
                "the API key is not valid", hint="send one that `renorm key new` printed, or RENORM_ADMIN_KEY"
            )
        fitting = [key for key in matches if key.allows(scope)]
        if not fitting:
            raise AccessError(
                f"key '{matches[0].name}' does not have scope '{scope}'", hint=f"send a key with scope '{scope}'"
            )
        timestamp = datetime.now(UTC)
        valid = next((key for key in fitting if not key.is_expired(timestamp)), None)
        if valid is None:
            raise AccessError(f"key '{fitting[0].name}' has expired", hint="create a new one with `renorm key new`")
        return valid

    def _matches(self, keys: Sequence[bytes]) -> list[ApiKey]:
        registered, digests = self.keys, [digest(candidate) for candidate in keys]
        # A list and no early exit, so that the time it takes reveals nothing about the keys.
        return [key for candidate in digests for key in registered if hmac.compare_digest(key.digest, candidate)]

    def _is_allowed_page(self, origin: str, host: str | None) -> bool:
        """Return whether the origin is this server or a page that the settings allow.

        On this machine it is not enough that Origin equals Host: a foreign name can be made to resolve to it (DNS
        rebinding). Elsewhere the server does not know its names.
        """
        if origin in self._pages:
            return True
        try:
            page = urlsplit(origin)
            name = page.hostname
        except ValueError:
            return False
        is_own_name = not self._loopback or name in self._names
        return bool(page.netloc) and page.netloc == host and is_own_name
