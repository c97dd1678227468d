"""Log lines as people and programs read them."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from app.observability.logs import REQUEST_ID, JsonLines, TextLines, access, set_up
from app.settings import Settings

ROOT = Path(__file__).parents[3]


@contextmanager
def logging_set_up(*handlers: logging.Handler, **settings: Any) -> Iterator[io.StringIO]:
    """Logging set up with these settings, and where its lines go; afterwards it is as pytest had it."""
    stream, level, before = io.StringIO(), access.level, logging.root.handlers
    logging.root.handlers = list(handlers)
    try:
        with redirect_stderr(stream):
            set_up(Settings(**settings))
        yield stream
    finally:
        logging.root.handlers = before
        logging.captureWarnings(False)
        access.setLevel(level)


def line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines().format(record)
    assert "\n" not in text
    said: dict[str, Any] = json.loads(text)
    return said


def record(message: str = "all is well", *args: Any, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("renorm", logging.WARNING, "file.py", 1, message, args, None)
    made.created = 1_795_269_888.0421
    made.__dict__.update(more)
    return made


def raised() -> Any:
    try:
        raise ValueError("of no\nuse")
    except ValueError:
        return sys.exc_info()


def test_a_line_for_programs() -> None:
    assert line(record("%d images of %s", 3, "camera-7")) == {
        "time": "2026-11-21T14:04:48.042Z",
        "level": "WARNING",
        "logger": "renorm",
        "message": "3 images of camera-7",
    }


def test_a_line_for_people() -> None:
    text = TextLines().format(record("%d images", 3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING renorm: 3 images", text)


def test_within_a_request_its_id_is_told() -> None:
    token = REQUEST_ID.set("abc-1")
    try:
        assert line(record())["request_id"] == "abc-1"
        assert TextLines().format(record()).endswith("renorm: all is well request_id=abc-1")
    finally:
        REQUEST_ID.reset(token)
    assert "request_id" not in line(record())


def test_a_traceback_is_one_member_of_one_line() -> None:
    said = line(record(exc_info=raised(), stack_info="Stack:\n  here"))
    assert said["exception"].startswith("Traceback (most recent call last):\n")
    assert said["exception"].endswith("ValueError: of no\nuse")
    assert said["stack"] == "Stack:\n  here"
    assert TextLines().format(record(exc_info=raised())).endswith("ValueError: of no\nuse")


def test_parts_of_the_message_are_members_for_programs_only() -> None:
    made = record("GET / 200", parts={"method": "GET"}, fields={"bytes": 3, "client": None})
    assert line(made)["method"] == "GET"
    assert (line(made)["bytes"], line(made)["client"]) == (3, None)
    assert TextLines().format(made).endswith("GET / 200 bytes=3 client=None")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("camera-7", "camera-7"),
        ("Küche", "Küche"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("two\nlines", '"two\\nlines"'),
        ("\u2028", '"\\u2028"'),
        ("", '""'),
    ],
)
def test_no_value_can_write_lines_or_fields_of_its_own(value: str, shown: str) -> None:
    made = record("x", fields={"stream": value})
    assert TextLines().format(made).endswith(f": x stream={shown}")
    assert line(made)["stream"] == value


def test_values_without_a_json_form_are_logged() -> None:
    said = line(record("half: %s", "\ud800", fields={"path": Path("a"), "many": 2**70, "half": "\ud800"}))
    assert (said["message"], said["path"], said["half"]) == ("half: \ud800", "a", "\ud800")
    assert line(record(fields={"path": Path("a")}))["path"] == "a"


def test_set_up_writes_warnings_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process of its own: a server that another test ran here may have configured them.
    for name in ("uvicorn", "uvicorn.error"):
        for attribute, usual in (("propagate", True), ("disabled", False), ("level", logging.NOTSET)):
            monkeypatch.setattr(logging.getLogger(name), attribute, usual)
    with logging_set_up(log_format="json") as stream:
        logging.getLogger("renorm").info("not shown")
        logging.getLogger("renorm").warning("shown")
        logging.getLogger("uvicorn.error").error("shown too")
    assert [json.loads(one)["message"] for one in stream.getvalue().splitlines()] == ["shown", "shown too"]


def test_set_up_for_people() -> None:
    with logging_set_up() as stream:
        logging.getLogger("renorm").warning("shown")
    assert stream.getvalue().endswith(" WARNING renorm: shown\n")


def test_warnings_of_python_are_lines_too() -> None:
    with logging_set_up(log_format="json") as stream:
        # Shown rather than given: pytest turns those that are given into errors.
        warnings.showwarning("out of date", DeprecationWarning, "file.py", 3)
    (said,) = map(json.loads, stream.getvalue().splitlines())
    assert (said["logger"], "out of date" in said["message"]) == ("py.warnings", True)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_access_log_is_written_where_it_is_asked_for(wanted: bool) -> None:
    with logging_set_up(access_log=wanted) as stream:
        access.info("GET / 200")
    assert ("renorm.access: GET / 200" in stream.getvalue()) is wanted


def test_a_program_that_logs_already_keeps_its_handlers() -> None:
    mine = logging.NullHandler()
    with logging_set_up(mine, log_format="json"):
        assert logging.root.handlers == [mine]


def test_every_line_of_a_program_is_json() -> None:
    code = """
import logging, warnings
from app.observability.logs import set_up
from app.settings import Settings
set_up(Settings(log_format="json", access_log=True))
logging.getLogger("renorm").warning("one")
warnings.warn("two")
logging.getLogger("renorm.access").info("three", extra={"fields": {"bytes": 1}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [json.loads(one) for one in done.stderr.splitlines()]
    assert [(one["logger"], one["level"]) for one in lines] == [
        ("renorm", "WARNING"),
        ("py.warnings", "WARNING"),
        ("renorm.access", "INFO"),
    ]
