"""The errors of the client, as one tree. Nothing else is raised, but OSError where a file cannot be read.

RenormClientError
├── InvalidInput        an argument is not valid; no request was sent
├── ServerUnreachable   no server answered, or the connection broke, on every try
├── Refused             the server refused: status, code, message and the location in the request
└── UnexpectedAnswer    the response is not that of a Renorm server
"""

from __future__ import annotations

# ruff: noqa: N818  # `except Refused` reads well


class RenormClientError(Exception):
    """The base class of all errors of the client."""


class InvalidInput(RenormClientError, ValueError):
    """An argument is not valid; no request was sent."""


class ServerUnreachable(RenormClientError):
    """No server answered, or the connection broke, on every try."""


class UnexpectedAnswer(RenormClientError):
    """The response is not that of a Renorm server."""


class Refused(RenormClientError):
    """The server refused the request.

    ``status`` is the HTTP status, ``code`` the kind of error for programs, ``message`` the problem and its remedy, and
    ``where`` the location in the request, empty where there is none. ``source`` is the caller's own word for that
    part, such as the path of the file that could not be read.
    """

    def __init__(self, status: int, code: str, message: str, where: str = "", source: str = "") -> None:
        super().__init__(status, code, message, where, source)
        self.status, self.code, self.message, self.where, self.source = status, code, message, where, source

    def __str__(self) -> str:
        location = self.source or self.where
        return f"{location + ': ' if location else ''}{self.message} ({self.status} {self.code})"
