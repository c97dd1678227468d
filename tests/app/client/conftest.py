"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that the client would have made: no test waits."""
    seconds_slept: list[float] = []

    async def sleep(seconds: float) -> None:
        seconds_slept.append(seconds)

    monkeypatch.setattr("app.client.synchronous.time.sleep", seconds_slept.append)
    monkeypatch.setattr("app.client.asynchronous.asyncio.sleep", sleep)
    return seconds_slept
