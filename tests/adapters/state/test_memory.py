"""One row per stream: there and back, rows that end early, rows that belong elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters import AdaBN, AnyAdapter, Key, Nothing, RobustBN, Site, Source, StateError, UnMixTNS, names
from adapters import adapter as strategy
from adapters.checks.requirements import equal
from adapters.sites import Sites
from adapters.state.memory import Layout, initial, join
from tests.nets import PreActivation, Twice, seeded

SITES = Sites(seeded(PreActivation))
CHANNELS = sum(site.channels for site in SITES)


def fresh(adapter: AnyAdapter) -> list[tuple[Tensor, ...]]:
    return [adapter.init(site) for site in SITES]


@pytest.mark.parametrize("name", names("adapter"))
def test_a_state_comes_back_from_its_row_bit_by_bit(name: str) -> None:
    layout, states = initial(strategy(name), SITES), fresh(strategy(name))
    row = join(states)
    head = layout.head_size
    assert (row.dim(), row.dtype, len(row)) == (1, torch.float32, len(layout) - head)
    assert torch.equal(row, layout.row[head:])
    row = layout.row
    for old, new in zip(states, layout.split(row), strict=True):
        assert type(new) is type(old)
        assert equal(old, new)


@pytest.mark.parametrize("name", names("adapter"))
def test_many_states_come_back_from_their_rows_as_each_from_its_own(name: str) -> None:
    layout = initial(strategy(name), SITES)
    rows = layout.row + torch.arange(3.0)[:, None]
    together = layout.split(rows)
    for stream, row in enumerate(rows):
        for site, alone in zip(together, layout.split(row), strict=True):
            assert equal([field[stream] for field in site], alone)
    heads = join([layout.split_head(rows)], leading=1) if layout.head_size else rows[:, :0]
    assert torch.equal(torch.cat([heads, join(together, leading=1)], 1), rows) or not len(layout)


class Mixed(NamedTuple):
    """Fields of every number of axes."""

    steps: Tensor  # []
    mean: Tensor  # [C]
    grid: Tensor  # [2, 3, C]


def _mixed(site: Site) -> Mixed:
    grid = torch.arange(6.0 * site.channels).view(2, 3, site.channels)
    return Mixed(torch.tensor(3.0), site.mean.clone(), grid)


def test_fields_of_any_number_of_axes_come_back() -> None:
    states = [_mixed(site) for site in SITES]
    layout = Layout(states)
    assert len(layout) == 7 * CHANNELS + len(SITES)
    for old, new in zip(states, layout.split(layout.row), strict=True):
        assert [field.shape for field in new] == [field.shape for field in old]
        assert equal(old, new)
    rows = torch.stack([layout.row, layout.row + 1])
    assert torch.equal(join(layout.split(rows), leading=1), rows)


def test_sizes_are_what_the_strategies_promise() -> None:
    promised: dict[AnyAdapter, int] = {
        Source(): 0,
        RobustBN(): 2 * CHANNELS,
        AdaBN(): 2 * CHANNELS,
        AdaBN(cumulative=True): 2 * CHANNELS + len(SITES),
        UnMixTNS(components=4): 8 * CHANNELS,
    }
    for adapter, numbers in promised.items():
        assert len(initial(adapter, SITES)) == numbers
        assert initial(adapter, SITES).row.untyped_storage().nbytes() == 4 * numbers


def test_a_joined_row_is_a_copy_and_a_split_state_a_view() -> None:
    states = fresh(RobustBN())
    row = join(states)
    row.fill_(5.0)
    assert not torch.equal(states[0][0], row[:8])
    assert Layout(states).split(row)[0][0].data_ptr() == row.data_ptr()
    single = torch.zeros(3)
    assert join([(single,)]).data_ptr() != single.data_ptr()


def test_the_row_of_a_new_stream_is_a_copy() -> None:
    states = fresh(RobustBN())
    layout = Layout(states[:1])
    states[0][0].fill_(7.0)
    assert torch.equal(layout.row[:8], SITES[0].mean)


def test_a_row_that_ends_where_a_site_does_is_completed_by_new_sites() -> None:
    states = fresh(RobustBN())
    layout = Layout(states)
    short = join(states[:2]) + 1
    restored = layout.split(layout.complete(short))
    assert len(restored) == len(states)
    assert equal(restored[1], [field + 1 for field in states[1]])
    assert equal(restored[2], states[2])
    assert equal(restored[3], states[3])
    assert torch.equal(layout.complete(torch.empty(0)), layout.row)
    assert layout.complete(layout.row) is layout.row


def test_completing_a_row_changes_neither_it_nor_the_row_of_a_new_stream() -> None:
    layout = Layout(fresh(RobustBN()))
    short, start = join(fresh(RobustBN())[:3]), layout.row.clone()
    given_row = short.clone()
    layout.complete(short).fill_(9.0)
    assert torch.equal(short, given_row)
    assert torch.equal(layout.row, start)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 100))
def test_a_row_is_taken_only_if_it_ends_where_a_site_does(size: int) -> None:
    layout = Layout(fresh(RobustBN()))  # four sites of 8 channels: 16 numbers each
    row = torch.zeros(size)
    if size in (0, 16, 32, 48, 64):
        assert len(layout.split(layout.complete(row))) == 4
    else:
        with pytest.raises(StateError, match=f"has {size} numbers, but this strategy needs 64 on this network"):
            layout.complete(row)


def test_a_strategy_that_remembers_nothing_has_states_and_no_numbers() -> None:
    layout = initial(Source(), SITES)
    assert len(layout.complete(torch.empty(0))) == 0
    assert layout.split(layout.row) == [Nothing()] * len(SITES)
    assert layout.split(torch.empty(5, 0)) == [Nothing()] * len(SITES)
    with pytest.raises(StateError, match=r"the state has 3 numbers, but this strategy needs 0"):
        layout.complete(torch.zeros(3))


@dataclass(frozen=True)
class Sometimes(RobustBN):
    """Remembers nothing at narrow sites."""

    def init(self, site: Site) -> object:
        return super().init(site) if site.channels > 6 else Nothing()


def test_sites_without_a_state_may_lie_between_others() -> None:
    network = seeded(Twice)
    network.last = torch.nn.BatchNorm2d(8)
    sites = Sites(network)
    layout = initial(Sometimes(), sites)
    assert len(layout) == 16
    first, second = layout.split(layout.row)
    assert first == Nothing()
    assert equal(second, sites[1].trained)


def test_equal_hyperparameters_are_one_key_and_others_another() -> None:
    assert Key("a", AdaBN()) == Key("a", strategy("adabn", {"momentum": 0.1}))
    assert len({Key("a", AdaBN()), Key("a", AdaBN(momentum=0.2)), Key("b", AdaBN()), Key("a", RobustBN())}) == 4


def test_new_sites_start_as_new() -> None:
    sites = Sites(seeded(Twice))
    row = join([RobustBN().init(site) for site in sites])
    sites.position("bn", 2)
    layout = initial(RobustBN(), sites)
    assert torch.equal(layout.split(layout.complete(row))[2][0], sites[2].mean)
