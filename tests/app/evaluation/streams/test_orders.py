"""Orders: permutations, as correlated as they say, from the seed alone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.evaluation.errors import EvaluationError
from app.evaluation.streams.orders import chunk_counts, parse_order
from tests.app.evaluation.dots import repeat_share

NAMES = ("iid", "sorted", "dirichlet:0.1", "dirichlet:0.001", "dirichlet:100", "ptta")

labels_of_any_kind = st.lists(st.integers(0, 12), min_size=1, max_size=150).map(np.array)


def _arranged(name: str, labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    return parse_order(name).arrange(labels, np.arange(len(labels)), np.random.default_rng(seed))


def _balanced(classes: int, per_class: int) -> NDArray[np.int64]:
    return np.random.default_rng(7).permutation(np.repeat(np.arange(classes), per_class))


def _runs(labels: NDArray[np.int64]) -> int:
    return 1 + int((np.diff(labels) != 0).sum())


@settings(deadline=None)
@given(labels_of_any_kind, st.sampled_from(NAMES), st.integers(0, 2**40))
def test_an_order_shows_every_image_once(labels: NDArray[np.int64], name: str, seed: int) -> None:
    positions = _arranged(name, labels, seed)
    assert sorted(positions.tolist()) == list(range(len(labels)))
    assert positions.dtype == np.int64


@pytest.mark.parametrize("name", NAMES)
def test_an_order_follows_from_the_seed(name: str) -> None:
    labels = _balanced(10, 30)
    original = labels.copy()
    np.random.seed(1)  # the global state, which must not count
    first = _arranged(name, labels, 3)
    np.random.seed(2)
    assert np.array_equal(first, _arranged(name, labels, 3))
    assert not np.array_equal(first, _arranged(name, labels, 4))
    assert np.array_equal(labels, original)


def test_repeat_share_of_each_order() -> None:
    labels = _balanced(10, 100)

    def mean(name: str) -> float:
        return float(np.mean([repeat_share(labels[_arranged(name, labels, seed)]) for seed in range(10)]))

    assert mean("iid") == pytest.approx(0.1, abs=0.02)
    assert mean("sorted") == 990 / 999, "nine changes in 999 pairs"
    assert mean("dirichlet:0.1") > 0.9
    assert mean("ptta") > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_sorted_shows_each_class_once_in_a_drawn_order(seed: int) -> None:
    labels = _balanced(10, 20)
    ordered = labels[_arranged("sorted", labels, seed)]
    assert _runs(ordered) == 10
    assert not np.array_equal(ordered, np.sort(labels)), "classes do not come by number"


def test_a_smaller_concentration_gives_longer_runs() -> None:
    labels = _balanced(10, 100)
    runs = [
        np.mean([_runs(labels[_arranged(f"dirichlet:{delta}", labels, seed)]) for seed in range(10)])
        for delta in (0.01, 0.1, 1, 100)
    ]
    assert runs == sorted(runs)
    assert runs[0] < 25
    assert runs[-1] > 80, "nearly every class in nearly every one of ten chunks"


def test_a_large_concentration_splits_classes_evenly_over_chunks() -> None:
    labels = _balanced(4, 100)
    ordered = labels[_arranged("dirichlet:1000000", labels)]
    for chunk in np.split(ordered, 4):
        assert np.bincount(chunk, minlength=4) == pytest.approx(25, abs=3)


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.sampled_from((0.01, 0.1, 1.0)), st.integers(0, 2**40))
def test_a_full_chunk_gets_no_more_images(sizes: list[int], delta: float, seed: int) -> None:
    counts = chunk_counts(sizes, delta, np.random.default_rng(seed))
    assert counts.shape == (len(sizes), len(sizes))
    assert counts.sum(1).tolist() == sizes
    assert (counts >= 0).all()
    # Before its last class came a chunk had less than its share; the last one is at most its largest.
    assert (counts.sum(0) - counts.max(0) < sum(sizes) / len(sizes)).all()


def test_chunks_are_drawn_again_until_each_holds_ten_images() -> None:
    smallest = [chunk_counts([100] * 10, 0.1, np.random.default_rng(seed)).sum(0).min() for seed in range(100)]
    assert min(smallest) >= 10, "one draw in four has a smaller chunk"
    small = [chunk_counts([12] * 5, 0.1, np.random.default_rng(seed)).sum(0).min() for seed in range(100)]
    assert 4 <= min(small) < 10, "a third of the fair share where ten would be too many"


@pytest.mark.parametrize(("classes", "per_class"), [(500, 5), (50, 1), (1, 1), (2, 1)])
def test_small_data_cannot_make_dirichlet_hang(classes: int, per_class: int) -> None:
    labels = _balanced(classes, per_class)
    began = time.perf_counter()
    positions = _arranged("dirichlet:0.01", labels)
    assert time.perf_counter() - began < 10
    assert sorted(positions.tolist()) == list(range(classes * per_class))


def test_ptta_has_at_most_a_hundred_slots() -> None:
    labels = _balanced(150, 150)
    # Stick breaking: 150 images reach about 10 ln(1 + 150 / 10) = 28 of 100 slots, and 15 ln(1 + 150 / 15) = 36 of 150.
    blocks = [_runs(labels[_arranged("ptta", labels, seed)]) for seed in range(5)]
    assert 150 * 20 < np.mean(blocks) < 150 * 30


def test_ptta_splits_classes_as_the_distribution_says() -> None:
    # Two classes, two slots: the share of the first slot is Beta(0.1, 0.1), whose variance is 1 / (4 * 1.2).
    labels = np.repeat([0, 1], 1000)
    shares = []
    for seed in range(400):
        ordered = labels[_arranged("ptta", labels, seed)]
        changes = np.flatnonzero(np.diff(ordered)) + 1
        runs = np.diff([0, *changes, len(ordered)])
        # 0 1 | 0 1 and 0 1 | 1 0 and their mirrors: the first run is one class's part in the first slot.
        shares.append(runs[0] / 1000 if len(runs) == 4 else None)
    defined = [share for share in shares if share is not None]
    assert len(defined) > 50
    assert np.mean(defined) == pytest.approx(0.5, abs=0.12)
    assert np.mean([0.1 < share < 0.9 for share in defined]) < 0.6, "shares lie near 0 and 1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("iid", "iid"),
        (" sorted ", "sorted"),
        ("dirichlet:0.10", "dirichlet:0.1"),
        ("dirichlet:1e-2", "dirichlet:0.01"),
        ("stretches:025", "stretches:25"),
        ("one_class", "one_class"),
    ],
)
def test_order_names_are_canonical(text: str, name: str) -> None:
    assert parse_order(text).name == name
    assert parse_order(name).name == name


@pytest.mark.parametrize(
    "text",
    [
        *("", "random", "IID", "iid:1", "ptta:0.1", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:0"),
        *("dirichlet:-1", "dirichlet:nan", "dirichlet:inf", "dirichlet:1e7"),
        *("stretches", "stretches:", "stretches:0", "stretches:-5", "stretches:2.5", "stretches:x", "stretches:²"),
        *("stretches:100001", "one_class:3", "one_class:", "one class"),
    ],
)
def test_unknown_orders_are_refused(text: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        parse_order(text)
    assert repr(text)[1:-1] in caught.value.message
    assert ("stretches:100" if text.startswith("stretches") else "dirichlet:0.1") in caught.value.hint or (
        "one_class" in caught.value.hint
    )


def test_repeats_counts_pairs() -> None:
    assert repeat_share(np.array([1, 1, 2, 2, 2])) == 0.75
    assert repeat_share(np.array([3])) == 0.0
