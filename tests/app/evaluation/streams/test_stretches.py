"""Stretches of one class: their lengths, how often images come, and the same class for ever."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.evaluation.class_runs import run_lengths
from app.evaluation.datasets.data import Dataset
from app.evaluation.streams.stretches import draw_sequence
from app.evaluation.types import PROTOCOLS, StreamOrder
from tests.app.evaluation.dots import DATA, data_of, deal, is_same, stream_of


def _labels_of(stream: StreamOrder, data: Dataset = DATA) -> NDArray[np.int64]:
    pairs = zip(stream.domain.tolist(), stream.image.tolist(), strict=True)
    return np.array([data.domains[d].labels[i] for d, i in pairs])


def _runs_of(stream: StreamOrder, data: Dataset = DATA) -> list[int]:
    return [int(length) for length in run_lengths(np.diff(_labels_of(stream, data)) != 0)]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PROTOCOLS), st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**40))
def test_every_stretch_has_its_length_and_one_class(protocol: str, length: int, limit: int, seed: int) -> None:
    stream = stream_of(protocol, f"stretches:{length}", seed, limit=limit, visits=2)
    labels = _labels_of(stream).reshape(-1, length)
    assert (labels == labels[:, :1]).all()
    of_each = Counter(stream.domain.tolist())
    shown = {number: 2 if protocol == "gradual" and DATA.domains[number].severity != 5 else 1 for number in of_each}
    rounds = 2 if protocol == "recurring" else 1
    expected = {number: -(-min(limit, 60) // length) * length * times * rounds for number, times in shown.items()}
    assert of_each == expected, "as many images as the limit says, rounded up to whole stretches"


@pytest.mark.parametrize("limit", [60, 33])
def test_images_come_equally_often_or_once_more_and_only_after_the_others(limit: int) -> None:
    data = data_of("fog", labels=deal(3, 8))  # 8 images of a class for stretches of 20
    stream = stream_of("clean", "stretches:20", data=data, limit=limit)
    labels = _labels_of(stream, data)
    for label in np.unique(labels):
        shown = stream.image[labels == label].tolist()
        for begin in range(0, len(shown), 8):
            part = shown[begin : begin + 8]
            assert len({*part}) == len(part)
        rounds = [tuple(shown[begin : begin + 8]) for begin in range(0, len(shown), 8)]
        assert len({*rounds}) == len(rounds), "each time in another order"
        counts = Counter(shown).values()
        assert max(counts) - min(counts) <= 1


def test_stretches_draw_from_all_images_of_a_class_before_they_repeat_one() -> None:
    data = data_of("fog", labels=deal(2, 50))
    stream = stream_of("clean", "stretches:40", data=data, limit=10)
    assert len(stream.image) == len({*stream.image.tolist()}) == 40


def test_stretches_of_one_class_do_not_follow_each_other() -> None:
    for seed, limit in itertools.product(range(20), (30, 40, 60)):
        assert {*_runs_of(stream_of("clean", "stretches:5", seed, limit=limit))} == {5}


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 2**40))
def test_equal_neighbours_occur_only_where_they_must(counts: list[int], seed: int) -> None:
    sequence = draw_sequence(np.array(counts), np.random.default_rng(seed))
    assert [sequence.count(k) for k in range(len(counts))] == counts
    repeats = sum(a == b for a, b in itertools.pairwise(sequence))
    assert repeats == max(0, 2 * max(counts) - sum(counts) - 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_class_shows_the_same_class_for_ever(protocol: str) -> None:
    stream = stream_of(protocol, "one_class", limit=24, visits=3)
    assert len({*_labels_of(stream).tolist()}) == 1
    assert len(stream.image) == len(stream_of(protocol, "iid", limit=24, visits=3).image)
    size = 36 if protocol == "mixed" else 12
    shown = list(zip(stream.domain.tolist(), stream.image.tolist(), strict=True))
    assert len({*shown[:size]}) == size, "all images of the class, then again"
    assert {*shown[:size]} == {*shown[size : 2 * size]} or protocol != "mixed"
    assert len(shown) > size


def test_the_seed_draws_the_one_class() -> None:
    classes = {seed: int(_labels_of(stream_of("clean", "one_class", seed))[0]) for seed in range(30)}
    assert {*classes.values()} == {0, 1, 2, 3, 4}
    assert classes[3] == _labels_of(stream_of("recurring", "one_class", 3))[0], "whatever the protocol"


@pytest.mark.parametrize("order", ["stretches:20", "one_class"])
def test_repeated_images_of_visits_are_the_same(order: str) -> None:
    visits = np.split(stream_of("recurring", order, limit=20, visits=3).image, 3)
    assert len({tuple(visit.tolist()) for visit in visits}) == 3
    assert len({tuple(sorted(visit[:20].tolist())) for visit in visits}) == 1
    assert is_same(*(stream_of("recurring", order, limit=20, visits=3) for _ in range(2)))
