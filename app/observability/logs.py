"""Log lines, for people or for programs, each with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from app.settings import Settings

REQUEST_ID: ContextVar[str] = ContextVar("renorm_request_id", default="")
"""The id of the request that is being answered, empty outside of any."""

access = logging.getLogger("renorm.access")
"""One line per call over HTTP, at level INFO."""

server = logging.getLogger("renorm.server")
"""What a program that starts servers waits for, at level INFO."""

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class TextLines(logging.Formatter):
    """A line for people: time, level, logger and message, then ``key=value`` for what else is known."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without a traceback."""
        return " ".join([super().formatMessage(record), *(f"{key}={_word(value)}" for key, value in _known(record))])


class JsonLines(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, and what else is known.

    What the message says can be given in parts, with ``extra={"parts": {...}}``: they are members of their own here.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The whole record: a traceback is the member ``exception``."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "parts", {}),
            **dict(_known(record)),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            said["stack"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(said, default=str).decode()
        except orjson.JSONEncodeError:
            # Half a surrogate pair, from a name that a client sent or a file system holds, is text only to Python.
            return json.dumps(said, default=str)


def set_up(settings: Settings) -> None:
    """Write warnings and errors to standard error as the settings say, and a line for each call where they ask for it.

    A program that has set logging up before keeps its own handlers.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    logging.basicConfig(handlers=[handler])
    # Python's own warnings would be lines that are not JSON.
    logging.captureWarnings(settings.log_format == "json")
    server.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").addFilter(_shorten_undecodable)
    access.setLevel(logging.INFO if settings.access_log else logging.WARNING)


def _shorten_undecodable(record: logging.LogRecord) -> bool:
    """Let text that is not UTF-8 be one line: uvicorn closes with 1007 and logs it as if it were its own fault."""
    kind = record.exc_info[0] if record.exc_info else None
    if kind is not None and issubclass(kind, UnicodeDecodeError):
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def _known(record: logging.LogRecord) -> list[tuple[str, Any]]:
    """What a line tells beside its message: given with ``extra={"fields": {...}}``, and the request's id."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    request_id = REQUEST_ID.get()
    return [*fields.items(), *([("request_id", request_id)] if request_id else [])]


def _word(value: Any) -> str:
    """A value as one word: quoted where it would not be one, so that nobody can write lines or fields of their own."""
    text = str(value)
    if text.isprintable() and not set(' "=') & set(text) and text:
        return text
    return json.dumps(text)
