"""Figures as rows of a CSV file: rounded, empty where not known, and read back."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from app.evaluation.metrics import measure_all, summarize
from app.evaluation.report.rows import COLUMNS, OLDEST, read_csv, write_rows
from tests.app.evaluation.made import result, study

RESULTS = [
    result("source", wrong=[1, 1, 1, 0], domain=[0, 0, 1, 1], state_bytes=0),
    result("source", "clean", wrong=[0, 0, 0, 1]),
    result("source", batch=16, wrong=[1, 1, 0, 0], seconds=0.001),
    result("bn", wrong=[1, 0, 0, 0], domain=[0, 0, 1, 1], state_bytes=5504),
    result("bn", "clean", wrong=[0, 1, 1, 1], state_bytes=5504),
    result("x|y", batch=16, wrong=[1, 1, 1, 0]),
]


def test_rows_of_the_csv(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.csv"
    write_rows(path, measure_all(RESULTS))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["strategy"] for row in rows] == ["source"] * 3 + ["bn"] * 2 + ["x|y"]
    assert list(rows[3].values()) == [
        "bn",
        "continual",
        "iid",
        "4",
        "0",
        "4",
        "25.0000",
        "15.0000",
        "-50.0000",
        "2.0000",
        "5504",
        "2.0000",
        "1.0000",
        "1.0000",
        *[""] * 4,
    ]
    assert [row["difference_to_source"] for row in rows] == ["0.0000"] * 3 + ["-50.0000", "50.0000", "25.0000"]
    assert b"\r" not in path.read_bytes()


def test_unknown_values_are_empty_in_the_csv(tmp_path: Path) -> None:
    write_rows(tmp_path / "results.csv", measure_all([result("bn", seconds=0.0)]))
    row = (tmp_path / "results.csv").read_text().splitlines()[1]
    assert row == "bn,continual,iid,4,0,4,25.0000,15.0000,,,0,0.0000,1.0000,1.0000,,,,"


def test_unmeasured_seconds_are_empty_in_the_csv(tmp_path: Path) -> None:
    write_rows(tmp_path / "results.csv", measure_all([replace(result("bn"), seconds=math.nan)]))
    row = (tmp_path / "results.csv").read_text().splitlines()[1]
    assert row == "bn,continual,iid,4,0,4,25.0000,15.0000,,,0,,1.0000,1.0000,,,,"
    (read,) = read_csv(tmp_path / "results.csv")
    assert math.isnan(read.seconds)
    assert math.isnan(read.images_per_s)


def test_csv_round_trip_keeps_the_means(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    original_rows = [*study(), *study(protocols=("recurring",), images=600)]
    write_rows(path, measure_all(original_rows))
    read, written = summarize(read_csv(path)), summarize(measure_all(original_rows))
    for loaded, original in zip(read, written, strict=True):
        assert (loaded.strategy, loaded.place, loaded.seeds) == (original.strategy, original.place, original.seeds)
        assert loaded.state_bytes == original.state_bytes
        assert loaded.runs == pytest.approx(original.runs, abs=1e-3)
        assert loaded.changes == pytest.approx(original.changes, abs=1e-3, nan_ok=True)
        for name in ("error", "difference", "error_spread", "ece", "images_per_s"):
            assert getattr(loaded, name) == pytest.approx(getattr(original, name), abs=1e-3), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has the columns "),
        ("strategy,error\n", "has the columns strategy, error, expected strategy, protocol,"),
        (",".join(COLUMNS) + "\nbn,single,iid,4\n", "row 2 is not a row of results"),
        (",".join(COLUMNS) + "\nbn,single,iid,4,0,4,much,1,,,0,,,,,,,\n", "row 2 is not a row of results: .*'much'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_csv(path)


def test_a_file_without_the_columns_of_later_versions_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(",".join(COLUMNS[:OLDEST]) + "\nbn,single,iid,4,0,4,25,15,,,0,2\n")
    (read,) = read_csv(path)
    assert (read.error, read.seconds) == (25.0, 2.0)
    assert all(math.isnan(value) for value in (*read.runs, *read.changes))
    path.write_text(path.read_text() + "bn,single,iid,4,0,4,25,15,,,0,2,1,1\n")
    with pytest.raises(ValueError, match="row 3 is not a row of results: it has 14 values, not 12"):
        read_csv(path)
