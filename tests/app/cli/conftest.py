"""What several tests of commands need."""

from __future__ import annotations

import pytest


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures of evaluations, most of the time that small ones take; tests of plots draw them."""
    monkeypatch.setattr("app.evaluation.plots.write.write_plots", lambda *_, **__: [])
