"""`renorm evaluate --protocol walk`: calibrated once, resumed and replayed without a calibration."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from tests.app.evaluation.small_data import write_data

pytestmark = pytest.mark.usefixtures("without_pictures")
SAMPLE = Path(__file__).parents[3] / "benchmarks" / "sample"
WALK = ("--protocol", "walk", "--domains", "gaussian_noise,contrast", "--order", "iid", "--limit", "16")
FAST = ("--batch-size", "16", "--no-speed", "--device", "cpu")


def _evaluate(data: Path, out: Path, *options: object) -> Result:
    words = ["evaluate", "--data", data, "--output", out, *FAST, *options]
    return CliRunner().invoke(cli, [str(word) for word in words])


def _errors(out: Path) -> dict[tuple[str, str], float]:
    with (out / "results.csv").open(newline="") as file:
        return {(row["protocol"], row["strategy"]): float(row["error"]) for row in csv.DictReader(file)}


def test_a_walk_is_calibrated_once_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.evaluation.walks.calibration.CALIBRATION_IMAGES", 12)
    out = tmp_path / "out"
    first = _evaluate(SAMPLE, out, *WALK, "--strategies", "source")
    assert first.exit_code == 0, first.output
    assert "renorm: calibrating the walk: gaussian_noise to contrast" in first.stderr
    assert "renorm: the walk goes through 2 corruptions; accuracy of source " in first.stderr
    assert "1 cells: 1 strategy, 1 stream" in first.stderr
    assert "| walk | medium: source keeps about 60 % of its accuracy above chance" in (out / "report.md").read_text()
    assert [file.name for file in (out / "streams").iterdir()] == ["walk_iid_s0.npz"]

    more = _evaluate(SAMPLE, out, *WALK, "--strategies", "source,bn")
    assert more.exit_code == 0, more.output
    assert "calibrating" not in more.stderr
    assert "1 cell already finished" in more.stderr
    other = _evaluate(SAMPLE, out, *WALK, "--strategies", "source", "--difficulty", "easy")
    assert other.exit_code == 2
    assert "difficulty was unset, now easy" in other.stderr

    again = _evaluate(SAMPLE, tmp_path / "again", "--streams", out / "streams", "--strategies", "source,bn")
    assert again.exit_code == 0, again.output
    assert _errors(tmp_path / "again") == _errors(out)
    assert set(_errors(out)) == {("walk", "source"), ("walk", "bn")}


def test_a_walk_of_data_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_data(tmp_path / "data", 32, 10)
    result = _evaluate(data, tmp_path / "out", "--protocol", "walk", "--strategies", "source")
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("renorm: source is right on ")
    assert "hardly more than chance" in result.stderr
