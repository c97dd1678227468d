"""The synchronous client is the one that the asynchronous client gives."""

from __future__ import annotations

from tools.generate_client import COMMAND, SOURCE, TARGET, generate


def test_the_synchronous_client_is_current() -> None:
    is_current = TARGET.read_text("utf-8") == generate()
    assert is_current, f"{TARGET.name} is not what {SOURCE.name} gives: run {COMMAND}, or make format"
