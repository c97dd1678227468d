"""Files that keep streams: read back whole, refused where they are broken or belong to other data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import StreamFileError
from app.evaluation.streams.stream_files import load_stream, save_stream
from app.evaluation.types import PROTOCOLS, StreamOrder
from tests.app.evaluation.dots import DATA, Dots, data_of, deal, is_same, stream_of

orders = st.sampled_from(("iid", "sorted", "dirichlet:0.1", "ptta"))


@settings(deadline=None, max_examples=30)
@given(protocol=st.sampled_from(PROTOCOLS), order=orders, seed=st.integers(0, 2**40), limit=st.integers(1, 30))
def test_a_saved_stream_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, protocol: str, order: str, seed: int, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("stream")
    stream = stream_of(protocol, order, seed, limit=limit)
    save_stream(folder / "stream.npz", stream, DATA)
    read = load_stream(folder / "stream.npz", DATA)
    assert is_same(read, stream)
    assert [getattr(read, name).dtype for name in ("domain", "image", "segment")] == [np.int32, np.int64, np.int32]
    assert [file.name for file in folder.iterdir()] == ["stream.npz"], "nothing temporary stays"


def test_a_stream_without_blends_is_written_as_earlier_versions_did(tmp_path: Path) -> None:
    save_stream(tmp_path / "s.npz", stream_of("mixed"), DATA)
    with np.load(tmp_path / "s.npz") as file:
        assert file.files == ["protocol", "order", "seed", "domain", "image", "segment", "data"]
    assert load_stream(tmp_path / "s.npz", DATA).blend is None


def _coloured(colour: int) -> Dataset:
    labels = DATA.domains[0].labels
    return replace(DATA, domains=[replace(domain, images=Dots(labels, colour)) for domain in DATA.domains])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (data_of("snow", "fog"), "domain number 14, but there are 11"),
        (data_of("snow", "fog", "arc", labels=deal(5, 2)), "but there are 10"),
        (data_of("snow", "frost", "arc"), "names, labels or images"),
        (data_of("snow", "fog", "arc", labels=deal(5, 12, seed=1)), "names, labels or images"),
        (_coloured(1), "names, labels or images"),
    ],
)
def test_a_stream_of_other_data_is_refused(tmp_path: Path, dataset: Dataset, message: str) -> None:
    save_stream(tmp_path / "s.npz", stream_of("mixed"), DATA)
    with pytest.raises(StreamFileError, match=message) as caught:
        load_stream(tmp_path / "s.npz", dataset)
    assert "other data" in caught.value.message


def test_domains_that_a_stream_does_not_show_may_change(tmp_path: Path) -> None:
    stream = stream_of("mixed", data=data_of("snow", "fog"))
    save_stream(tmp_path / "s.npz", stream, data_of("snow", "fog"))
    assert is_same(load_stream(tmp_path / "s.npz", DATA), stream)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    with pytest.raises(StreamFileError, match="is not a saved stream"):
        load_stream(path, DATA)
    save_stream(path, stream_of("mixed"), DATA)
    content = path.read_bytes()
    for broken in (b"", b"text", content[: len(content) // 2], content[:200] + b"\0" * 50 + content[250:]):
        path.write_bytes(broken)
        with pytest.raises(StreamFileError, match="is not a saved stream"):
            load_stream(path, DATA)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("segment", np.array([1, 0, 0]), "segments are not in rising order"),
        ("segment", np.array([0, 0]), "differ in length"),
        ("image", np.array([0.0, 1.0, 2.0]), "not integers"),
        ("image", np.array([[0, 1, 2]]), "not integers"),
        ("protocol", np.array("daily"), "not a protocol"),
        ("seed", np.array("0"), "its seed is"),
        ("image", np.array([0, 1, 60]), "image of snow 1 number 60, but there are 60"),
        ("image", np.array([0, -1, 2]), "number -1"),
        ("domain", np.array([0, -1, 0]), "domain number -1"),
    ],
)
def test_a_file_with_wrong_entries_is_refused(
    tmp_path: Path, field: str, value: NDArray[np.generic], message: str
) -> None:
    path = tmp_path / "s.npz"
    three = np.zeros(3, np.int32)
    save_stream(path, StreamOrder("single", "iid", 0, three, np.arange(3), three), DATA)
    assert load_stream(path, DATA).image.tolist() == [0, 1, 2]
    with np.load(path) as file:
        arrays = {**file, field: value}
    np.savez(path, **arrays)
    with pytest.raises(StreamFileError, match=message):
        load_stream(path, DATA)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    stream = stream_of("clean")
    save_stream(path, stream, DATA)
    with pytest.raises(ValueError, match="Object arrays"):
        save_stream(path, replace(stream, order=object()), DATA)  # type: ignore[arg-type]
    assert is_same(load_stream(path, DATA), stream)
    assert [file.name for file in tmp_path.iterdir()] == ["s.npz"]
