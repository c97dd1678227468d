"""Streams: what each protocol shows, that chance comes from the seed alone, over all processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import EvaluationError
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.streams import make_stream, split_requests
from app.evaluation.types import PROTOCOLS, StreamOrder
from tests.app.evaluation.dots import DATA, data_of, deal, digest, repeat_share, stream_of

ROOT = Path(__file__).parents[4]


def _pairs(stream: StreamOrder) -> list[tuple[int, int]]:
    return list(zip(stream.domain.tolist(), stream.image.tolist(), strict=True))


def _labels_of(stream: StreamOrder, data: Dataset = DATA) -> NDArray[np.int64]:
    return np.array([data.domains[d].labels[i] for d, i in _pairs(stream)])


def _titles(stream: StreamOrder, data: Dataset = DATA) -> list[str]:
    """Of the domains, as they follow each other."""
    change = [0, *(np.flatnonzero(np.diff(stream.domain)) + 1).tolist()]
    return [data.domains[stream.domain[i]].title for i in change]


orders = st.sampled_from(("iid", "sorted", "dirichlet:0.1", "ptta"))


@settings(deadline=None)
@given(st.sampled_from(PROTOCOLS), orders, st.integers(0, 2**40), st.integers(1, 80), st.integers(1, 3))
def test_every_image_of_the_limit_is_shown_once_a_visit(
    protocol: str, order: str, seed: int, limit: int, visits: int
) -> None:
    stream = stream_of(protocol, order, seed, limit=limit, visits=visits)
    times = Counter(_pairs(stream))
    for number, domain in enumerate(DATA.domains):
        expected = {"clean": domain.name == "clean", "gradual": (domain.name != "clean") * (1 + (domain.severity != 5))}
        usual = (number in DATA.shifted) * (visits if protocol == "recurring" else 1)
        counts = [times[number, image] for image in range(60) if times[number, image]]
        visited = int(expected.get(protocol, usual))
        assert counts == [visited] * (min(limit, 60) if visited else 0)
    assert (np.diff(stream.segment) >= 0).all()
    assert stream.segment[0] == 0
    assert len({*stream.segment.tolist()}) == (3 if protocol == "single" else 1)
    assert [str(a.dtype) for a in (stream.domain, stream.image, stream.segment)] == ["int32", "int64", "int32"]
    assert (stream.protocol, stream.order, stream.seed) == (protocol, order, seed)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 50))
def test_requests_cover_everything_in_order_and_end_with_segments(lengths: list[int], batch: int) -> None:
    segment = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    nothing = np.zeros(len(segment), np.int32)
    stream = StreamOrder("single", "iid", 0, nothing, nothing.astype(np.int64), segment)
    slices = list(split_requests(stream, batch))
    positions = np.arange(len(segment))
    assert np.concatenate([positions[s] for s in slices]).tolist() == positions.tolist()
    assert all(len({*segment[s].tolist()}) == 1 for s in slices)
    assert all(1 <= len(positions[s]) <= batch for s in slices)
    assert len(slices) == sum(-(-length // batch) for length in lengths), "only the last one of a segment is short"


def test_a_request_of_no_images_is_refused() -> None:
    with pytest.raises(EvaluationError, match="batch size must be at least 1, not 0"):
        list(split_requests(stream_of("clean"), 0))


def test_domains_come_in_published_order() -> None:
    assert _titles(stream_of("single")) == _titles(stream_of("continual")) == ["snow 5", "fog 5", "arc 5"]
    assert _titles(stream_of("recurring", visits=2)) == ["snow 5", "fog 5", "arc 5"] * 2
    assert _titles(stream_of("clean")) == ["clean"]
    single = stream_of("single")
    assert np.array_equal(single.domain[1:] != single.domain[:-1], single.segment[1:] != single.segment[:-1])


def test_severities_rise_and_fall() -> None:
    rise_and_fall = [1, 2, 3, 4, 5, 4, 3, 2, 1]
    stream = stream_of("gradual", limit=7)
    assert _titles(stream) == [f"{name} {severity}" for name in ("snow", "fog", "arc") for severity in rise_and_fall]
    first, last = stream.image[7:14], stream.image[49:56]
    assert {*first.tolist()} == {*last.tolist()}
    assert not np.array_equal(first, last)


def test_single_and_continual_show_the_same_images() -> None:
    single, continual = stream_of("single", "ptta", limit=30), stream_of("continual", "ptta", limit=30)
    assert _pairs(single) == _pairs(continual)


@pytest.mark.parametrize("order", ["iid", "sorted"])
def test_visits_show_the_same_images_in_another_order(order: str) -> None:
    visits = np.split(stream_of("recurring", order, limit=20, visits=3).image, 3)
    assert len({tuple(visit.tolist()) for visit in visits}) == 3
    for visit in visits:
        for domain, first in zip(np.split(visit, 3), np.split(visits[0], 3), strict=True):
            assert {*domain.tolist()} == {*first.tolist()}
    assert np.array_equal(visits[0], stream_of("continual", order, limit=20).image)


def test_mixed_shuffles_domains_together() -> None:
    domain = stream_of("mixed").domain.astype(np.int64)
    assert {*domain.tolist()} == {*DATA.shifted}
    assert repeat_share(domain) == pytest.approx(1 / 3, abs=0.12)


@pytest.mark.parametrize("order", ["sorted", "dirichlet:0.1", "ptta"])
def test_mixed_correlates_labels_and_mixes_domains_within(order: str) -> None:
    stream = stream_of("mixed", order)
    assert repeat_share(_labels_of(stream)) > 0.8
    assert repeat_share(stream.domain.astype(np.int64)) == pytest.approx(1 / 3, abs=0.12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("limit", [5, 23])
def test_a_limit_keeps_classes_even(protocol: str, limit: int) -> None:
    stream = stream_of(protocol, limit=limit, visits=1)
    for number in {*stream.domain.tolist()}:
        images = np.unique(stream.image[stream.domain == number])
        counts = np.bincount(DATA.domains[number].labels[images], minlength=5)
        assert counts.sum() == limit
        assert counts.max() - counts.min() <= 1


def test_a_limit_takes_what_rare_classes_have() -> None:
    labels = np.repeat([0, 1, 2], [40, 2, 30])
    stream = stream_of("clean", data=data_of(labels=labels), limit=20)
    assert np.bincount(labels[stream.image]).tolist() in ([9, 2, 9],)


def test_a_limit_keeps_correlated_streams_correlated() -> None:
    data = data_of("fog", labels=deal(5, 200))
    for order in ("sorted", "dirichlet:0.1", "ptta"):
        assert repeat_share(_labels_of(stream_of("continual", order, data=data, limit=100), data)) > 0.75
    assert repeat_share(_labels_of(stream_of("continual", data=data, limit=100), data)) < 0.35


def test_a_limit_draws_other_images_for_other_seeds_and_domains() -> None:
    stream = stream_of("single", limit=20)
    chosen = [{*stream.image[stream.domain == number].tolist()} for number in DATA.shifted]
    assert chosen[0] != chosen[1] != chosen[2]
    assert chosen[0] != {*stream_of("single", seed=1, limit=20).image[:20].tolist()}
    assert chosen[0] == {*stream_of("single", "sorted", limit=20).image[:20].tolist()}, "the order does not matter"


def test_an_added_domain_does_not_change_the_others() -> None:
    extended = data_of("snow", "rain", "fog", "arc")
    fog_only = stream_of("continual", "ptta", data=data_of("fog"), limit=20)
    among = stream_of("continual", "ptta", data=extended, limit=20)
    assert np.array_equal(fog_only.image, among.image[among.domain == extended.find("fog", 5)])


def test_a_stream_is_the_same_in_every_process() -> None:
    code = "import numpy, dots; numpy.random.seed(1); print(dots.digest())"
    paths = os.pathsep.join(map(str, (ROOT, Path(__file__).parent.parent)))
    hashed = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=ROOT, env=hashed, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == digest()


@pytest.mark.parametrize(
    ("protocol", "data", "options", "message"),
    [
        ("daily", DATA, {}, "unknown protocol 'daily'"),
        ("clean", data_of("fog", clean=False), {}, "no clean images"),
        ("gradual", data_of("fog", levels=False), {}, "five severities"),
        ("gradual", data_of(), {}, "clean images only"),
        ("mixed", data_of(), {}, "clean images only"),
        ("single", DATA, {"limit": 0}, "limit must be at least 1, not 0"),
        ("recurring", DATA, {"visits": 0}, "visits must be at least 1, not 0"),
        ("single", DATA, {"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_invalid_streams_are_refused(protocol: str, data: Dataset, options: dict[str, int], message: str) -> None:
    with pytest.raises(EvaluationError, match=message) as caught:
        make_stream(
            data, protocol, parse_order("iid"), options.get("seed", 0), options.get("limit"), options.get("visits", 5)
        )
    assert caught.value.hint
