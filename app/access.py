"""Who may make admin calls: whoever holds the key; without a key only programs on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from app.errors import AccessError, MissingKeyError
from app.settings import Settings

_SET_KEY = "set RENORM_ADMIN_KEY (at least 8 characters), restart, and send it as 'Authorization: Bearer KEY'"


def check_access(settings: Settings, keys: Sequence[str], origin: str | None, host: str | None) -> None:
    """Let an admin call pass, or say why not.

    ``keys`` are those that the call presents, as HTTP headers carry them (latin-1); ``origin`` and ``host`` are its
    headers of that name. With a key set it is always needed. Without one, a server that listens on this machine only
    is open to its programs, but not to web pages in its browsers.

    Raises:
        MissingKeyError: a key is needed and none was sent.
        AccessError: the key is wrong; or no key is set and the call could come from anywhere.
    """
    if settings.admin_key is not None:
        _check_key(settings.admin_key.get_secret_value(), keys)
    elif not settings.loopback:
        raise AccessError(
            "admin calls are closed: the server listens beyond this machine and has no key", hint=_SET_KEY
        )
    elif origin is not None and not _own_page(origin, host, settings.host):
        raise AccessError("admin calls from other web pages are refused", hint=f"call from a program, or {_SET_KEY}")


def _check_key(key: str, presented: Sequence[str]) -> None:
    if not presented:
        raise MissingKeyError(
            "this call needs the admin key", hint="send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'"
        )
    # Bytes: an ASGI server hands headers over as latin-1, whatever the client meant, and str cannot be compared then.
    if not any(hmac.compare_digest(given.encode("latin-1"), key.encode()) for given in presented):
        raise AccessError("the admin key is wrong", hint="send the value of RENORM_ADMIN_KEY")


def _own_page(origin: str, host: str | None, listening: str) -> bool:
    """Whether a page of this very server asks.

    Origin and Host being equal is not enough: a foreign name can be made to resolve to this machine (DNS rebinding).
    """
    try:
        page = urlsplit(origin)
        name = page.hostname
    except ValueError:
        return False
    return page.netloc == host and name in {"localhost", "127.0.0.1", "::1", listening}
