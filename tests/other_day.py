"""A plugin of pytest: workers that collect as on different days, so that names which depend on time are found."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Let every second worker collect as on another day: pytest-xdist refuses names that differ between workers."""
    worker = getattr(session.config, "workerinput", {}).get("workerid", "gw0")
    with pytest.MonkeyPatch.context() as patch:
        if int(worker.removeprefix("gw")) % 2:
            now = time.time
            patch.setattr(time, "time", lambda: now() + 86_461.5)
        return (yield)
