"""The grid and its streams: made once, kept, and shown again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import EvaluationError
from app.evaluation.running.grid import (
    StreamOptions,
    grid,
    load_streams,
    make_streams,
    read_streams,
    save_streams,
    stream_of,
    streams_digest,
)
from app.evaluation.specs import parse_specs
from tests.app.evaluation.small_data import IMAGES, small_dataset

OPTIONS = StreamOptions(("single", "mixed"), ("iid", "sorted"), seeds=2, limit=None, visits=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data"))


def test_every_protocol_order_and_seed_has_its_stream(dataset: Dataset) -> None:
    streams = make_streams(dataset, replace(OPTIONS, orders=("iid", "dirichlet:0.10", "iid"), limit=4))
    assert [tuple(name) for name in streams] == [
        (protocol, order, seed)
        for protocol in ("single", "mixed")
        for order in ("iid", "dirichlet:0.1")
        for seed in (0, 1)
    ]
    for name, stream in streams.items():
        assert (stream.protocol, stream.order, stream.seed) == name
        assert len(stream.image) == 8
    recurring = make_streams(dataset, StreamOptions(("recurring",), ("iid",), 1, None, 3))
    assert [len(stream.image) for stream in recurring.values()] == [3 * 2 * IMAGES]


def test_the_grid_runs_every_strategy_on_every_stream_in_every_size(dataset: Dataset) -> None:
    streams = make_streams(dataset, OPTIONS)
    cells = grid(parse_specs(["bn,adabn:momentum=0.2"]), streams, [4, 1, 4])
    assert len(cells) == len(set(cells)) == 2 * 8 * 2
    assert [cell.batch for cell in cells[:2]] == [4, 1]
    assert list(dict.fromkeys(cell.strategy for cell in cells)) == ["bn", "adabn:momentum=0.2"]
    assert {stream_of(cell) for cell in cells} == set(streams)


def test_streams_load_by_name(dataset: Dataset, tmp_path: Path) -> None:
    streams = make_streams(dataset, OPTIONS)
    save_streams(tmp_path, dataset, streams)
    name = list(streams)[2]
    assert list(read_streams(tmp_path, dataset, [name, name])) == [name]
    assert streams_digest(read_streams(tmp_path, dataset, [name])) == streams_digest({name: streams[name]})


def test_saved_streams_replace_new_ones(dataset: Dataset, tmp_path: Path) -> None:
    streams = make_streams(dataset, OPTIONS)
    assert streams_digest(save_streams(tmp_path, dataset, streams)) == streams_digest(streams)
    assert list(load_streams(tmp_path, dataset)) == sorted(streams)
    new_streams = {name: replace(stream, image=stream.image[::-1].copy()) for name, stream in streams.items()}
    assert streams_digest(new_streams) != streams_digest(streams)
    assert streams_digest(save_streams(tmp_path, dataset, new_streams)) == streams_digest(streams)
    with pytest.raises(EvaluationError, match="contains no saved stream"):
        load_streams(tmp_path / "nothing", dataset)
    (tmp_path / "single_iid_s0.npz").rename(tmp_path / "a.npz")
    save_streams(tmp_path, dataset, streams)
    with pytest.raises(EvaluationError, match="two streams single iid of seed 0"):
        load_streams(tmp_path, dataset)
