"""What takes long is told: in a line that changes, or in lines."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from app.cli.progress import progress

CODE = """
from app.cli.progress import progress
with progress() as show:
    show("compiling 1 of 2")
    show("compiling 2 of 2")
"""


def test_progress_without_a_terminal_is_a_line_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as show:
        show("compiling 1 of 2")
        show("compiling 2 of 2")
    assert capsys.readouterr() == ("", "renorm: compiling 1 of 2\nrenorm: compiling 2 of 2\n")


def test_progress_without_steps_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress():
        pass
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_one_line_changes() -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], stderr=slave, stdout=subprocess.PIPE, check=True, env=environment
    )
    os.close(slave)
    drawn = os.read(master, 100_000).decode()
    os.close(master)
    assert "compiling 2 of 2" in drawn
    assert "renorm:" not in drawn
    assert done.stdout == b""
