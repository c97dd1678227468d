"""Tests of the folder of an evaluation: finished cells, settings in the manifest, atomic writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.evaluation.errors import EvaluationError
from app.evaluation.running.cells import Folder, cell_name
from app.evaluation.types import Cell, Result

SETTINGS = {"model": "net", "limit": "30"}
CELL = Cell("adabn+lame:memory=64,when=correlated", "single", "dirichlet:0.1", 16, 2)
ARRAYS = ("domain", "label", "predicted", "confidence", "entropy", "drift")


def result(cell: Cell = CELL, images: int = 5) -> Result:
    rng = np.random.default_rng(images)
    integers, (confidence, entropy, drift) = rng.integers(0, 4, (3, images)), rng.random((3, images)).astype(np.float32)
    drift[0] = np.nan
    return Result(
        cell,
        integers[0].astype(np.int32),
        integers[1],
        integers[2],
        confidence,
        entropy,
        drift,
        seconds=1.5,
        state_bytes=7,
    )


def test_a_finished_cell_round_trips(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new" / "er", SETTINGS)
    original = result()
    folder.keep(original)
    loaded = folder.load(CELL)
    assert (loaded.cell, loaded.seconds, loaded.state_bytes) == (CELL, 1.5, 7)
    for name in ARRAYS:
        expected, actual = getattr(original, name), getattr(loaded, name)
        assert expected.dtype == actual.dtype
        np.testing.assert_array_equal(expected, actual)


def test_only_unfinished_cells_are_missing(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SETTINGS)
    other_cell = CELL._replace(seed=3)
    folder.keep(result())
    folder.file(other_cell).with_name(f"{folder.file(other_cell).name}.1.partial").write_bytes(b"half")
    assert folder.missing([CELL, other_cell]) == [other_cell]
    assert Folder(tmp_path, SETTINGS).missing([other_cell, CELL]) == [other_cell]
    assert [run.cell for run in folder.results([other_cell, CELL])] == [CELL]


def test_anew_deletes_only_an_evaluation_with_other_settings(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SETTINGS)
    folder.keep(result())
    folder.keep_speeds({"source": {1: 0.5}})
    (folder.streams / "one.npz").write_bytes(b"stream")
    for note in (tmp_path / "notes.txt", tmp_path / "cells" / "notes.txt"):
        note.write_text("mine")
    assert Folder(tmp_path, SETTINGS, anew=True).missing([CELL]) == [], "the settings are the same"
    new_settings = {**SETTINGS, "limit": "31"}
    with pytest.raises(EvaluationError, match="limit was 30, now 31"):
        Folder(tmp_path, new_settings)
    folder = Folder(tmp_path, new_settings, anew=True)
    assert (folder.missing([CELL]), folder.speeds(), list(folder.streams.iterdir())) == ([CELL], {}, [])
    assert sorted(path.name for path in tmp_path.rglob("*.txt")) == ["notes.txt", "notes.txt"]


def test_a_cell_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    folder = Folder(tmp_path, SETTINGS)
    monkeypatch.setattr("app.evaluation.running.cells.np.savez_compressed", full)
    with pytest.raises(OSError, match="no space left"):
        folder.keep(result())
    assert folder.missing([CELL]) == [CELL]
    assert folder.results([CELL]) == []


def test_results_come_in_requested_order_then_earlier_cells(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SETTINGS)
    cells = [CELL._replace(strategy=name) for name in ("z", "a", "m", "b")]
    for cell in cells:
        folder.keep(result(cell))
    assert [run.cell.strategy for run in folder.results([*cells[:2], cells[1]])] == ["z", "a", "b", "m"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "net", "limit": "100"}, "limit was 30, now 100"),
        ({"model": "net"}, "limit was 30, now unset"),
        ({**SETTINGS, "severity": "3"}, "severity was unset, now 3"),
    ],
)
def test_other_settings_are_refused_and_named(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    Folder(tmp_path, SETTINGS)
    old_manifest = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(EvaluationError) as refused:
        Folder(tmp_path, settings)
    assert message in refused.value.message
    assert "model" not in refused.value.message
    assert "--output" in refused.value.hint
    assert (tmp_path / "manifest.json").read_bytes() == old_manifest


def test_the_order_of_settings_does_not_matter(tmp_path: Path) -> None:
    Folder(tmp_path, SETTINGS)
    old_manifest = (tmp_path / "manifest.json").read_bytes()
    Folder(tmp_path, dict(reversed(SETTINGS.items())))
    assert (tmp_path / "manifest.json").read_bytes() == old_manifest


def test_an_unusable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EvaluationError, match="cannot be written"):
        Folder(tmp_path / "file", SETTINGS)
    for content in ("no json", "[]"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(EvaluationError, match="manifest"):
            Folder(tmp_path, SETTINGS)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"words"])
def test_a_broken_cell_is_named(tmp_path: Path, content: bytes) -> None:
    folder = Folder(tmp_path, SETTINGS)
    folder.file(CELL).write_bytes(content)
    with pytest.raises(EvaluationError) as refused:
        folder.results([CELL])
    assert str(folder.file(CELL)) in refused.value.message
    assert "delete" in refused.value.hint


def test_a_file_with_other_entries_is_not_a_cell(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SETTINGS)
    np.savez(folder.file(CELL), about=np.array(json.dumps(["x"])))
    with pytest.raises(EvaluationError, match="cannot be read"):
        folder.load(CELL)


def test_speeds_round_trip_with_integer_sizes(tmp_path: Path) -> None:
    folder = Folder(tmp_path, SETTINGS)
    assert folder.speeds() == {}
    speeds = {"adabn:momentum=0.2": {1: 0.5, 64: 0.01}}
    folder.keep_speeds(speeds)
    assert Folder(tmp_path, SETTINGS).speeds() == speeds


CELLS = st.builds(
    Cell,
    st.text(st.characters(codec="utf-8"), max_size=200),
    st.just("single"),
    st.sampled_from(["iid", "dirichlet:0.1", "dirichlet:01"]),
    st.integers(1, 999),
    st.integers(0, 9),
)


@given(CELLS, CELLS)
def test_cell_names_are_valid_file_names_and_unique(first: Cell, second: Cell) -> None:
    assert len(cell_name(first).encode()) <= 200
    assert not set(cell_name(first)) & set('/\\:*?"<>| \0\n')
    assert (cell_name(first) == cell_name(second)) == (first == second)


def test_cell_names_are_readable() -> None:
    readable = "adabn+lame_memory=64_when=correlated_single_dirichlet_0.1_b16_s2-"
    assert cell_name(CELL).startswith(readable)
