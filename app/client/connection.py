"""Where the server is and how it is spoken to, checked before anything is sent."""

from __future__ import annotations

from typing import Any

import httpx

from app import __version__
from app.client.errors import InvalidInput


def shown(url: str) -> str:
    """The server's address for messages: without a password that it may hold."""
    return str(httpx.URL(url).copy_with(userinfo=b"")).rstrip("/")


def arguments(url: str, key: str | None, timeout: float | None) -> dict[str, Any]:
    """What `httpx.Client` and `httpx.AsyncClient` take.

    Raises:
        InvalidInput: the address is none, or the key cannot stand in a header.
    """
    try:
        scheme = httpx.URL(url).scheme
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url!r} is no address: {error}") from error
    if scheme not in {"http", "https"}:
        raise InvalidInput(
            f"the address must begin with http:// or https://, as http://127.0.0.1:8000 does, not {url!r}"
        )
    headers = {b"User-Agent": f"renorm/{__version__}".encode()}
    if key is not None:
        if not key.isprintable() or not key.strip():
            raise InvalidInput("the key is empty or holds a line break or another character that cannot be sent")
        # Bytes, because httpx would encode only ASCII as the server reads it.
        headers[b"Authorization"] = f"Bearer {key.strip()}".encode()
    return {"base_url": url, "headers": headers, "timeout": timeout}
