"""One row per stream: there and back, rows that end early, rows that belong elsewhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import STRATEGIES, AdaBN, Key, RobustBN, Source, StateError, UnMixTNS, strategy
from adapters.memory import initial, length, pack, unpack
from adapters.sites import Sites
from tests.nets import PreActivation, Twice, seeded

SITES = Sites(seeded(PreActivation))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_state_comes_back_from_its_row_bit_by_bit(name: str) -> None:
    states = initial(strategy(name), SITES)
    row = pack(states)
    assert (row.dim(), row.dtype, len(row)) == (1, torch.float32, length(states))
    for old, new in zip(states, unpack(row, states), strict=True):
        assert type(new) is type(old)
        for a, b in zip(old, new, strict=True):
            assert torch.equal(a, b)


def test_sizes_are_what_the_strategies_promise() -> None:
    channels = sum(site.channels for site in SITES)
    assert length(initial(Source(), SITES)) == 0
    assert length(initial(RobustBN(), SITES)) == 2 * channels
    assert length(initial(AdaBN(), SITES)) == 2 * channels + len(SITES)
    assert length(initial(UnMixTNS(components=4), SITES)) == 8 * channels


def test_a_packed_row_is_a_copy_and_an_unpacked_state_a_view() -> None:
    states = initial(RobustBN(), SITES)
    row = pack(states)
    row.fill_(5.0)
    assert not torch.equal(states[0][0], row[:8])
    assert unpack(row, states)[0][0].data_ptr() == row.data_ptr()


def test_a_row_that_ends_where_a_site_does_is_completed_by_new_sites() -> None:
    states = initial(RobustBN(), SITES)
    short = pack(states[:2]) + 1
    restored = unpack(short, states)
    assert torch.equal(restored[1][1], states[1][1] + 1)
    assert restored[2] is states[2]
    assert len(restored) == len(states)
    assert all(a is b for a, b in zip(unpack(torch.empty(0), states), states, strict=True))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 100))
def test_a_row_is_taken_only_if_it_ends_where_a_site_does(size: int) -> None:
    states = initial(RobustBN(), SITES)  # four sites of 8 channels: 16 numbers each
    row = torch.zeros(size)
    if size in (0, 16, 32, 48, 64):
        assert len(unpack(row, states)) == 4
    else:
        with pytest.raises(StateError, match=f"a state of {size} numbers does not fit .* which takes 64: restore it"):
            unpack(row, states)


def test_equal_hyperparameters_are_one_key_and_others_another() -> None:
    assert Key("a", AdaBN()) == Key("a", strategy("adabn", {"momentum": 0.1}))
    assert len({Key("a", AdaBN()), Key("a", AdaBN(momentum=0.2)), Key("b", AdaBN()), Key("a", RobustBN())}) == 4


def test_new_sites_start_as_new() -> None:
    sites = Sites(seeded(Twice))
    row = pack(initial(RobustBN(), sites))
    sites.position("bn", 2)
    template = initial(RobustBN(), sites)
    assert torch.equal(unpack(row, template)[2][0], sites[2].mean)
