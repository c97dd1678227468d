"""Streams and the engines that own them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.processes.rendezvous import engine_of

NAMES = [f"camera-{i}" for i in range(2000)]


@given(st.text(), st.integers(1, 16))
def test_every_name_has_one_engine(name: str, engines: int) -> None:
    assert engine_of(name, engines) in range(engines)
    assert engine_of(name, engines) == engine_of(name, engines)


@pytest.mark.parametrize("engines", [2, 3, 8])
def test_engines_share_the_streams_about_equally(engines: int) -> None:
    counts = Counter(engine_of(name, engines) for name in NAMES)
    assert len(counts) == engines
    assert max(counts.values()) - min(counts.values()) < 0.3 * len(NAMES) / engines


@pytest.mark.parametrize("engines", [1, 2, 4])
def test_one_more_engine_takes_streams_and_moves_no_others(engines: int) -> None:
    moved = [name for name in NAMES if engine_of(name, engines) != engine_of(name, engines + 1)]
    assert {engine_of(name, engines + 1) for name in moved} == {engines}
    assert abs(len(moved) / len(NAMES) - 1 / (engines + 1)) < 0.05
