"""Who may call: whoever holds a key of the right scope; without keys only programs on this machine."""

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
"""What the key of the settings is called beside those of the file."""

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
"""The scope of a path and of all below it; None is open. The first row that fits counts, and ``/`` itself is open.
What is not here needs ``infer``: a door that somebody forgets to list is closed rather than open."""

_SEND = "send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'"
_MAKE = "make a key with `renorm key new` and restart with --keys FILE, or set RENORM_ADMIN_KEY; then " + _SEND


_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def needed(path: str) -> KeyScope | None:
    """The scope that calls to a path need, None where they need none."""
    if path == "/":
        return None
    return next((scope for top, scope in PATHS if path == top or path.startswith(f"{top}/")), "infer")


@lru_cache(1024)
def _name_in(host: str) -> str | None:
    """The name in a Host header, without the port; None where it is none. Kept, for clients send the same all day."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def presented(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys among a request's headers, whose names are in lower case: a bearer token, an ``X-API-Key``, or both."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.setdefault(name, credentials.strip())
        elif name == b"x-api-key":
            found.setdefault(name, value.strip())
    return [key for key in found.values() if key]


class Access:
    """The rules of one server.

    With a key set (``admin_key``, ``keys`` or both) every call that `needed` names a scope for needs a key of it.
    Without one a server that listens on this machine only is open to its programs: calls that change anything, and
    WebSockets, are refused to foreign web pages in its browsers, and every call under a host name that is not its own,
    which a page could have made to resolve to it (DNS rebinding). One that listens beyond is closed, or, if
    ``insecure``, open except for admin calls.

    Raises:
        KeyFileError: the file of keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._host, self._loopback, self._insecure = settings.host, settings.loopback, settings.insecure
        self._pages = frozenset(settings.cors_origins)
        self._names = _LOCAL | {settings.host.strip("[]").lower(), *settings.allowed_hosts}
        self._file = None if settings.keys is None else KeyFile(settings.keys)
        key = settings.admin_key
        admin = frozenset[KeyScope](["infer", "admin"])
        self._own = () if key is None else (ApiKey(ADMIN_KEY_NAME, admin, digest(key.get_secret_value().encode())),)
        self.keyed = self._file is not None or bool(self._own)

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """Every key that is known now, expired ones included."""
        return self._own if self._file is None else self._own + self._file.keys

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
        """Let a call of that scope pass, or say why not; the key for which it passes, if it is one. Changes nothing.

        ``keys`` are those that the call presents, see `presented`; ``origin`` and ``host`` are its headers of that name
        as text. Calls that are no HTTP, such as gRPC, have neither. ``changes`` says whether the call may move a
        stream or anything else, as every method but GET, HEAD and OPTIONS may.

        Raises:
            MissingKeyError: a key is needed and none was sent.
            AccessError: no sent key is right, valid and of that scope; or no key is set and the call could come from
                anywhere.
        """
        if scope is None:
            return None
        if self.keyed:
            return self._fitting(scope, keys)
        if not self._loopback and (scope == "admin" or not self._insecure):
            what = "admin calls are closed" if scope == "admin" else "the server is closed"
            raise AccessError(f"{what}: it listens beyond this machine and has no key", hint=_MAKE)
        self._check_host(host)
        self._check_page(scope, origin, host, changes=changes, websocket=websocket)
        return None

    def check_stream(
        self, keys: Sequence[bytes], stream: str | None, *, scope: KeyScope = "infer", forgets: bool = False
    ) -> None:
        """Let a call that has passed `check` touch that stream, or all streams (None), or say why not.

        A key that is bound to streams touches those alone; of several keys one has to do for both, the call's scope and
        the stream. To forget one, as ``sequence_start`` and ``sequence_end`` of the Open Inference Protocol do, takes
        scope admin or a key that is bound to it.

        Raises:
            AccessError: no sent key is for that stream, or none may forget it; or it has ended since `check`.
        """
        if not self.keyed:
            return
        valid = self.valid(keys)
        if not valid:
            raise AccessError("the key is no longer valid", hint="make another with `renorm key new`")
        fitting = [key for key in valid if key.covers(stream) and key.may(scope)]
        if not fitting:
            names = ", ".join(f"'{key.name}'" for key in valid)
            subject = "all streams" if stream is None else f"stream '{stream}'"
            raise AccessError(f"key {names} is not for {subject}", hint="send one that is bound to it, or to none")
        if forgets and not any(key.streams or key.may("admin") for key in fitting):
            raise AccessError(
                f"key '{fitting[0].name}' may not forget a stream: sequence_start and sequence_end do",
                hint="leave them out, or send a key of scope admin or one that is bound to the stream "
                "(renorm key new --streams PREFIX)",
            )

    def valid(self, keys: Sequence[bytes]) -> list[ApiKey]:
        """The keys behind those that a call presents, without those that have expired."""
        now = datetime.now(UTC)
        return [key for key in self._matching(keys) if not key.expired(now)]

    def _check_host(self, host: str | None) -> None:
        """Refuse a name that is not this server's, on this machine: a page may have made it resolve to it."""
        if host is None or not self._loopback:
            return
        if _name_in(host) not in self._names:
            raise AccessError(
                f"this server is not called {host[:100]!r}",
                hint="call it localhost or 127.0.0.1, name it with --allowed-hosts, or set a key",
            )

    def _check_page(
        self, scope: KeyScope, origin: str | None, host: str | None, *, changes: bool, websocket: bool
    ) -> None:
        """Refuse what another web page asks for, unless it only reads, which browsers keep from it."""
        if origin is None or not (changes or websocket or scope == "admin") or self._own_page(origin, host):
            return
        subject = "WebSockets" if websocket else "admin calls" if scope == "admin" else "calls that change a stream"
        hint = f"call from a program, allow the page with --cors-origins, or {_MAKE}"
        raise AccessError(f"{subject} from other web pages are refused", hint=hint)

    def summary(self) -> str:
        """Who may call, in one line for the person who starts the server."""
        if self.keyed:
            now = datetime.now(UTC)
            valid = sum(not key.expired(now) for key in self.keys)
            return f"Access: calls need a key; {valid} {'is' if valid == 1 else 'are'} valid."
        if self._loopback:
            return "Access: open to every program on this machine; no keys are set."
        return "Access: open to everyone who reaches this machine, except admin calls; no keys are set (--insecure)."

    def refusal(self) -> str:
        """Why this server should not start, with what to do about it; nothing if it may."""
        if self._loopback or self.keyed or self._insecure:
            return ""
        return (
            f"--host {self._host} listens beyond this machine, and no key is set: make one with "
            "`renorm key new --name NAME --file keys.toml` and add --keys keys.toml, set RENORM_ADMIN_KEY, "
            "or add --insecure to let everyone predict"
        )

    def _fitting(self, scope: KeyScope, given: Sequence[bytes]) -> ApiKey:
        if not given:
            raise MissingKeyError(f"this call needs a key with scope '{scope}'", hint=_SEND)
        matches = self._matching(given)
        if not matches:
            raise AccessError("the key is wrong", hint="send one that `renorm key new` printed, or RENORM_ADMIN_KEY")
        fitting = [key for key in matches if key.may(scope)]
        if not fitting:
            raise AccessError(f"key '{matches[0].name}' is not for calls of scope '{scope}'", hint="send one that is")
        now = datetime.now(UTC)
        valid = next((key for key in fitting if not key.expired(now)), None)
        if valid is None:
            raise AccessError(f"key '{fitting[0].name}' has expired", hint="make another with `renorm key new`")
        return valid

    def _matching(self, given: Sequence[bytes]) -> list[ApiKey]:
        known, digests = self.keys, [digest(one) for one in given]
        # A list, and no early exit: how long it takes tells nothing of which key fits, or how much of it.
        return [key for one in digests for key in known if hmac.compare_digest(key.digest, one)]

    def _own_page(self, origin: str, host: str | None) -> bool:
        """Whether a page of this very server asks, or one that the settings allow.

        Origin and Host being equal is not enough on this machine: a foreign name can be made to resolve to it (DNS
        rebinding). Beyond it the server does not know its names.
        """
        if origin in self._pages:
            return True
        try:
            page = urlsplit(origin)
            name = page.hostname
        except ValueError:
            return False
        own = not self._loopback or name in self._names
        return bool(page.netloc) and page.netloc == host and own
