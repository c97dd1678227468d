"""Log lines as text or JSON, each with the id of its request."""

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
"""The id of the current request, empty outside of requests."""

access = logging.getLogger("renorm.access")
"""The access log: one line per HTTP call, at level INFO."""

server = logging.getLogger("renorm.server")
"""The lines that a program which starts servers waits for, at level INFO."""

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class TextLines(logging.Formatter):
    """Text lines: time, level, logger and message, then all other fields as ``key=value``."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the line without a traceback."""
        return " ".join([super().formatMessage(record), *(f"{key}={_word(value)}" for key, value in _fields(record))])


class JsonLines(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, and all other fields.

    The parts of a message given with ``extra={"parts": {...}}`` become separate members.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format the whole record: a traceback is the member ``exception``."""
        members: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "parts", {}),
            **dict(_fields(record)),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            members["stack"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(members, default=str).decode()
        except orjson.JSONEncodeError:
            # Half a surrogate pair, from a client's name or a file system, is a valid string only in Python.
            return json.dumps(members, default=str)


def set_up(settings: Settings) -> None:
    """Configure logging to standard error by the settings, with an access log where they enable it.

    A program that has configured logging before keeps its handlers.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    logging.basicConfig(handlers=[handler])
    # Without this, Python's warnings would be lines that are not JSON.
    logging.captureWarnings(settings.log_format == "json")
    server.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").addFilter(_shorten_undecodable)
    access.setLevel(logging.INFO if settings.access_log else logging.WARNING)


def _shorten_undecodable(record: logging.LogRecord) -> bool:
    """Log text that is not UTF-8 as one line: uvicorn closes with 1007 and logs a traceback, as for its own bugs."""
    kind = record.exc_info[0] if record.exc_info else None
    if kind is not None and issubclass(kind, UnicodeDecodeError):
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def _fields(record: logging.LogRecord) -> list[tuple[str, Any]]:
    """Return the fields of a line beside its message: those of ``extra={"fields": {...}}`` and the request id."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    request_id = REQUEST_ID.get()
    return [*fields.items(), *([("request_id", request_id)] if request_id else [])]


def _word(value: Any) -> str:
    """Return a value as one word, quoted where necessary, so that no value can forge lines or fields."""
    text = str(value)
    if text.isprintable() and not set(' "=') & set(text) and text:
        return text
    return json.dumps(text)
