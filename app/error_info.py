"""The content of an error response, which each door renders in its protocol; `app.error_table` makes it."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

LONGEST = 1000
"""Characters of a text: an error may quote its cause, but must not send a whole body back."""


def _clean(text: str) -> str:
    """Return ``text`` as valid UTF-8 (a client may have sent half a surrogate pair), shortened to `LONGEST`."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class ErrorInfo:
    """An error as its client is to see it; ``status`` is HTTP's, and ``allow`` lists the methods that a path has.

    Each text is valid UTF-8 of at most `LONGEST` characters; ``location`` names a part of the client's request.
    """

    status: int
    code: str
    message: str = ""
    hint: str = ""
    location: str = ""
    retry_after: int | None = None  # seconds
    allow: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "hint", "location"):
            object.__setattr__(self, name, _clean(getattr(self, name)))

    @property
    def text(self) -> str:
        """The message with its hint."""
        return _clean(f"{self.message}; {self.hint}" if self.hint else self.message)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response over HTTP, besides those of its body."""
        challenge = "Bearer" if self.status == 401 else ""
        headers = {"Allow": self.allow, "WWW-Authenticate": challenge, "Retry-After": str(self.retry_after or "")}
        return {name: value for name, value in headers.items() if value}

    def members(self) -> dict[str, str]:
        """Return the members of the error's JSON object."""
        members = {"error": self.text, "code": self.code}
        return {**members, "where": self.location} if self.location else members

    def to_json(self) -> bytes:
        """Return the error as a JSON object."""
        return orjson.dumps(self.members())
