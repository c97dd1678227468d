"""The slab against a list of what lies where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from app.serving.processes.slab import KEPT_BYTES, PAGE, Extent, Slab


@pytest.fixture
def slab() -> Iterator[Slab]:
    slab = Slab(10 * PAGE)
    yield slab
    slab.close()


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_another_process_sees_what_was_put(slab: Slab) -> None:
    other = Slab(slab.capacity, slab.descriptor)
    for images in (numbers(1, 2, 8, 8, 3), torch.randn(3, 3, 4, 4), numbers(2, 1, 1, 1, 1)):
        place = slab.put(images)
        assert place is not None
        assert torch.equal(other.view(place), images)
        assert other.view(place).dtype == images.dtype


def test_a_view_shares_the_memory(slab: Slab) -> None:
    place = slab.put(numbers(1, 4, 4))
    assert place is not None
    slab.view(place).zero_()
    assert not slab.view(place).any()


def test_tensors_without_room_or_of_other_types_take_no_extent(slab: Slab) -> None:
    assert slab.put(numbers(1, 11 * PAGE)) is None
    assert slab.put(torch.zeros(3, dtype=torch.float64)) is None
    assert slab.put(numbers(1, 10 * PAGE)) is not None
    assert slab.put(numbers(1, 1)) is None
    assert slab.taken_bytes == 10 * PAGE
    slab.clear()
    assert slab.put(numbers(1, 10 * PAGE)) is not None


def test_a_place_is_freed_once(slab: Slab) -> None:
    first, second = slab.put(numbers(1, 5)), slab.put(numbers(2, 5))
    assert first is not None
    assert second is not None
    slab.give_back(first)
    slab.give_back(first)
    assert slab.taken_bytes == PAGE
    assert slab.put(numbers(3, 2 * PAGE)) == Extent(2 * PAGE, "u1", (2 * PAGE,))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * PAGE), st.integers(0, 99)), max_size=60))
def test_places_never_overlap_and_freed_ones_come_together(steps: list[tuple[bool, int, int]]) -> None:
    slab, held = Slab(12 * PAGE), dict[Extent, Tensor]()
    for is_put, size, seed in steps:
        if is_put:
            images = numbers(seed, size)
            place = slab.put(images)
            largest = 12 * PAGE - slab.taken_bytes
            assert place is not None or size > largest - PAGE or len(held) > 1
            if place is not None:
                held[place] = images
        elif held:
            place = list(held)[seed % len(held)]
            slab.give_back(place)
            del held[place]
        for place, images in held.items():
            assert torch.equal(slab.view(place), images)
    for place in list(held):
        slab.give_back(place)
    assert slab.taken_bytes == 0
    assert slab.put(numbers(0, 12 * PAGE)) is not None
    slab.close()


def test_an_empty_slab_gives_its_memory_back() -> None:
    slab = Slab(8 * KEPT_BYTES)
    place = slab.put(torch.ones(6 * KEPT_BYTES, dtype=torch.uint8))
    assert place is not None
    slab.give_back(place)
    # Pages that were given back read as zeros; the first ones are kept.
    assert not slab.view(place)[KEPT_BYTES + PAGE :].any()
    assert slab.view(place)[:KEPT_BYTES].all()
    slab.close()
