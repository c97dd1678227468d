"""What a call can end with, as one tree. Nothing else is raised, but OSError where a file cannot be read.

RenormClientError
├── InvalidInput        what the caller gave cannot be sent; no request was made
├── ServerUnreachable   no server answered, or the connection broke, on every try
├── Refused             the server said no: status, code, message and the part of the request it was about
└── UnexpectedAnswer    something answered, but not as a Renorm server does
"""

from __future__ import annotations

# ruff: noqa: N818  # in `except Refused` the word says it all


class RenormClientError(Exception):
    """The root."""


class InvalidInput(RenormClientError, ValueError):
    """What the caller gave cannot be sent; no request was made."""


class ServerUnreachable(RenormClientError):
    """No server answered, or the connection broke, on every try."""


class UnexpectedAnswer(RenormClientError):
    """Something answered, but not as a Renorm server does."""


class Refused(RenormClientError):
    """The server said no.

    ``status`` is HTTP's, ``code`` the kind of error for programs, ``message`` what was wrong and how to mend it, and
    ``where`` which part of the request it was about, empty where none. ``source`` is the caller's own word for that
    part, such as the path of the file that could not be read.
    """

    def __init__(self, status: int, code: str, message: str, where: str = "", source: str = "") -> None:
        super().__init__(status, code, message, where, source)
        self.status, self.code, self.message, self.where, self.source = status, code, message, where, source

    def __str__(self) -> str:
        about = self.source or self.where
        return f"{about + ': ' if about else ''}{self.message} ({self.status} {self.code})"
