"""What the tests of the client share."""

from __future__ import annotations

import pytest


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No test waits: how long it would have is here."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("app.client.synchronous.time.sleep", waited.append)
    monkeypatch.setattr("app.client.asynchronous.asyncio.sleep", sleep)
    return waited
