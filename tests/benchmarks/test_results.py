"""`make results`: what it runs, and that pages are made of what was measured."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import results
import results_page
from results_long import Reach
from results_plan import GRID, LONG, Plan
from results_readme import BEGIN, END
from typer.testing import CliRunner

from adapters import STRATEGIES
from app.cli import cli
from app.cli.evaluate_prepare import Asked
from app.evaluation.cells import Folder
from app.evaluation.measures import measure_all
from app.evaluation.rows import read_csv
from app.evaluation.types import Cell
from tests.app.evaluation.made import result
from tests.app.evaluation.small_data import write_data

KEPT = {
    **{"format": "1", "renorm": "9.9", "model": "m", "architecture": "A", "type": "float32", "weights": "abc"},
    **{"data": "def", "severity": "5", "limit": "4"},
}
SMALL = GRID._replace(strategies=("source", "adabn"), batches=(1, 64), seeds=1)
SHORT = LONG._replace(strategies=("source", "adabn"))


def keep(out: Path, plan: Plan, cells: Sequence[Cell]) -> None:
    """Finished cells: `source` is wrong in half of the images, others in a quarter, clean ones in none."""
    folder = Folder(out / plan.name, KEPT)
    for cell in cells:
        wrong = [0] * 4 if cell.protocol == "clean" else [1, int(cell.strategy == "source"), 0, 0]
        folder.keep(result(*cell, wrong=wrong, state_bytes=8))
    folder.keep_speeds({"source": {1: 0.5}})


class Place:
    """A folder with data and pages to be written."""

    def __init__(self, at: Path) -> None:
        self.at, self.out, self.docs, self.readme = at, at / "out", at / "docs", at / "README.md"
        (at / "data").mkdir()
        self.docs.mkdir()
        write_data(at / "data", 16, 4)
        self.readme.write_text(f"# Top\n\n{BEGIN}\nold\n{END}\n\nEnd.\n")

    def main(self, *more: str) -> int:
        named = {"--data": self.at / "data", "--out": self.out, "--docs": self.docs, "--readme": self.readme}
        return results.main([*(str(word) for pair in named.items() for word in pair), *more])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(results, "GRID", SMALL)
    monkeypatch.setattr(results, "LONG", SHORT)
    return Place(tmp_path)


def test_the_plans_are_whole() -> None:
    grid, long = GRID.cells(), LONG.cells()
    assert len(grid) == len(set(grid)) == 18 * 5 * 2 * 4 * 3
    assert len(long) == 10
    parts = {part for cell in grid for part in cell.strategy.partition(":")[0].split("+")}
    assert set(STRATEGIES) - parts == {"temperature"}, "it changes no prediction"
    assert {cell.strategy for cell in long} <= {cell.strategy for cell in grid}


@pytest.mark.parametrize("plan", [GRID, LONG], ids=["grid", "long"])
def test_the_command_asks_for_the_cells_of_the_plan(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Asked] = []
    # By import: `app.cli.evaluate` is the command where it is looked up as an attribute.
    monkeypatch.setattr(importlib.import_module("app.cli.evaluate"), "run", asked.append)
    done = CliRunner().invoke(cli, plan.command(str(tmp_path), Path("out"), 3))
    assert done.exit_code == 0, done.output
    (one,) = asked
    assert (one.data, one.output, one.processes) == (tmp_path, Path("out") / plan.name, 3)
    made = Plan(
        plan.name,
        tuple(one.strategies or ()),
        tuple(one.protocols),
        tuple(one.orders),
        tuple(one.batches),
        one.seeds,
        0,
    )
    assert made.cells() == plan.cells()
    assert (one.limit, one.domains) == (plan.limit or None, list(plan.domains))
    assert plan.visits in (None, one.visits)


def test_both_evaluations_are_run_before_anything_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def call(command: Sequence[str], env: dict[str, str], check: bool) -> Any:
        assert command[:4] == [sys.executable, "-m", "app", "evaluate"]
        assert env["OMP_NUM_THREADS"] == "1"
        plan = SMALL if command[-1].endswith("grid") else SHORT
        keep(place.out, plan, plan.cells())
        called.append(plan.name)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("results.subprocess.run", call)
    assert place.main() == 0
    assert called == ["grid", "long"]
    page = (place.docs / "results.md").read_text()
    assert "missing" not in page
    assert len(read_csv(place.docs / "results.csv")) == len(SMALL.cells())


def test_an_evaluation_that_fails_ends_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("results.subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 3))
    assert place.main() == 3
    assert "the evaluation 'grid' ended with status 3" in capsys.readouterr().err
    assert "old" in place.readme.read_text()


def test_pages_are_made_of_what_is_there(place: Place) -> None:
    keep(place.out, SMALL, SMALL.cells()[:-3])
    keep(place.out, SHORT, SHORT.cells())
    assert place.main("--no-run") == 0
    page = (place.docs / "results.md").read_text()
    assert "| unfinished | 3 of 42 cells are missing |" in page
    assert "| `adabn` | **25.0 (-25.0)** | **25.0 (-25.0)** |" in page
    assert "| model | m (A, float32, weights abc) |" in page
    assert (
        "renorm evaluate \\\n  --data path/to/cifar10c \\\n  --domains gaussian_noise,glass_blur,fog,contrast" in page
    )
    assert str(place.at) not in page
    assert page == results.make_page(place.docs, results_page.told_about(page))
    pictures = {path.stem for path in (place.docs / "images" / "results").iterdir()}
    assert pictures == set(results_page.PICTURES)
    table = place.readme.read_text()
    assert table == f"# Top\n\n{BEGIN}\n\n{results.make_table(place.docs)}\n{END}\n\nEnd.\n"
    assert "| 50.0 | 50.0 | 50.0 | 50.0 |" in table


def test_nothing_measured_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.main("--no-run") == 1
    assert f"{place.out / 'grid'} holds no evaluation" in capsys.readouterr().err
    Folder(place.out / "grid", KEPT)
    assert place.main("--no-run") == 1
    assert f"{place.out / 'grid'} holds no finished cell" in capsys.readouterr().err
    assert "old" in place.readme.read_text()


def test_a_readme_without_markers_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    keep(place.out, SMALL, SMALL.cells())
    keep(place.out, SHORT, SHORT.cells())
    place.readme.write_text("# Top\n")
    assert place.main("--no-run") == 1
    assert "needs the lines <!-- strategies" in capsys.readouterr().err
    assert place.readme.read_text() == "# Top\n"


def test_the_reading_stands_in_the_page_as_it_is() -> None:
    figures = measure_all([result(), result("bn")])
    reading = "## Reading\n\nIt *helps*: 1 < 2 | 3.\n"
    page = results_page.page(figures, [Reach("bn", "iid", 7, 12.5)], {"model": "m"}, reading)
    assert f"--output results/long\n```\n\n{reading}\n## Overview" in page
    assert "| `bn` | 12.5 (1) |" in page
    assert "## clean" not in page
