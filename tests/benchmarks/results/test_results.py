"""`make results`: what it runs, and that pages are made of what was measured."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters import STRATEGIES
from app.cli import cli
from app.cli.evaluate.prepare import EvaluateOptions
from app.evaluation.metrics import measure_all
from app.evaluation.report.rows import read_csv, write_rows
from app.evaluation.running.cells import Folder
from app.evaluation.types import Cell
from benchmarks.results import __main__ as results
from benchmarks.results import page as results_page
from benchmarks.results.choice_table import CHOICE
from benchmarks.results.completeness import count_missing
from benchmarks.results.long_stream import PrefixErrorRate
from benchmarks.results.plan import STUDY, PublishedEvaluation, cells
from benchmarks.results.readme_table import BEGIN, END
from tests.app.evaluation.made import result
from tests.app.evaluation.small_data import write_data

KEPT = {
    **{"format": "1", "renorm": "9.9", "model": "m", "architecture": "A", "type": "float32", "weights": "abc"},
    **{"data": "def", "severity": "5", "limit": "4"},
}
SMALL = (
    STUDY[0]._replace(strategies=("source", "adabn"), batches=(1, 64)),
    STUDY[0]._replace(strategies=("source", "bn"), protocols=("continual",), orders=("iid", "ptta")),
)


def keep(out: Path, finished: Sequence[Cell]) -> None:
    """Finished cells: `source` is wrong in half of the images, others in a quarter, clean ones in none."""
    folder = Folder(out / "grid", KEPT)
    for cell in finished:
        wrong = [0] * 4 if cell.protocol == "clean" else [1, int(cell.strategy == "source"), 0, 0]
        folder.keep(result(*cell, wrong=wrong, state_bytes=8))


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

    def texts(self) -> tuple[str, str]:
        return (self.docs / "results.md").read_text(), self.readme.read_text()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(results, "STUDY", SMALL)
    return Place(tmp_path)


def test_plans_hold_every_cell_of_the_study_once() -> None:
    every = cells()
    assert len(every) == len(set(every))
    assert {cell for plan in STUDY for cell in plan.cells()} == set(every)
    parts = {part for cell in every for part in cell.strategy.partition(":")[0].split("+")}
    assert "temperature" not in parts, "it changes no prediction"
    missing = set(STRATEGIES) - parts - {"temperature"}
    assert not missing, f"add {sorted(missing)} to benchmarks/results/plan.py (CONTRIBUTING.md, 'Add a strategy')"
    frozen = {cell[1:] for cell in every if cell.strategy == "source"}
    assert {cell[1:] for cell in every} == frozen, "whatever is measured can be compared"
    assert {plan.name for plan in STUDY} == {"grid"} != {CHOICE.name}


@pytest.mark.parametrize("plan", [*STUDY, CHOICE], ids=[*map(str, range(len(STUDY))), "choice"])
def test_the_command_asks_for_the_cells_of_the_plan(
    plan: PublishedEvaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EvaluateOptions] = []
    # By import: `app.cli.evaluate.command` is the command where it is looked up as an attribute.
    monkeypatch.setattr(importlib.import_module("app.cli.evaluate.command"), "run", asked.append)
    done = CliRunner().invoke(cli, plan.command(str(tmp_path), Path("out"), 3))
    assert done.exit_code == 0, done.output
    (one,) = asked
    assert (one.data, one.output, one.processes, one.speed) == (tmp_path, Path("out") / plan.name, 3, False)
    made = PublishedEvaluation(
        plan.name,
        tuple(one.strategies or ()),
        tuple(one.protocols),
        tuple(one.orders),
        tuple(one.batches),
        one.seeds,
    )
    assert made.cells() == plan.cells()
    assert one.limit == (plan.limit or None)


def test_all_calls_are_made_before_anything_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Sequence[str]] = []

    def call(command: Sequence[str], env: dict[str, str], check: bool) -> Any:
        assert command[:4] == [sys.executable, "-m", "app", "evaluate"]
        assert env["OMP_NUM_THREADS"] == "1"
        keep(place.out, SMALL[len(called)].cells())
        called.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("benchmarks.results.evaluations.subprocess.run", call)
    assert place.main("--processes", "2") == 0
    assert [command[4:] for command in called] == [
        plan.command(str(place.at / "data"), place.out, 2)[1:] for plan in SMALL
    ]
    page = (place.docs / "results.md").read_text()
    assert "| unfinished |" not in page
    assert {one.cell for one in read_csv(place.docs / "results.csv")} == set(cells(SMALL))


def test_a_failed_evaluation_ends_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "benchmarks.results.evaluations.subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 3)
    )
    assert place.main() == 3
    assert "the evaluation 'grid' ended with status 3" in capsys.readouterr().err
    assert "old" in place.readme.read_text()


def test_pages_are_made_of_the_finished_cells(place: Place) -> None:
    keep(place.out, cells(SMALL)[:-3])
    assert place.main("--no-run") == 0
    page = (place.docs / "results.md").read_text()
    assert f"| unfinished | 3 of {len(cells(SMALL))} cells are missing |" in page
    assert "| `adabn` | **25.0 (-25.0)** | **25.0 (-25.0)** |" in page
    assert "| model | m (A, float32, weights abc) |" in page
    assert "renorm evaluate \\\n  --data path/to/cifar10c \\\n  --strategies source,bn," in page
    assert "| one corruption after another, shuffled (WRN-28-10) | `source` | 43.5 | 1.00 | 50.0 | 1.00 |" in page
    assert "## How hyperparameters were chosen" not in page, "they were not compared yet"
    assert str(place.at) not in page
    assert page == results.make_page(place.docs, results_page.told_about(page))
    pictures = {path.stem for path in (place.docs / "images" / "results").iterdir()}
    assert pictures == set(results_page.PICTURES)
    table = place.readme.read_text()
    assert table == f"# Top\n\n{BEGIN}\n\n{results.make_table(place.docs)}\n{END}\n\nEnd.\n"
    assert "| 50.0 | 50.0 | 50.0 | 50.0 |" in table


def test_texts_are_written_from_the_csv_files_alone_and_count_missing_cells(place: Place) -> None:
    keep(place.out, cells(SMALL))
    assert place.main("--no-run") == 0
    finished, rows = place.texts(), read_csv(place.docs / "results.csv")
    texts_only = ["--texts-only", "--docs", str(place.docs), "--readme", str(place.readme)]
    write_rows(place.docs / "results.csv", rows[:-2])
    assert results.main(texts_only) == 0
    page, table = place.texts()
    assert f"| unfinished | 2 of {len(rows)} cells are missing |" in page
    assert page == results.make_page(place.docs, results_page.told_about(page))
    assert results.make_table(place.docs) in table
    write_rows(place.docs / "results.csv", rows)
    assert results.main(texts_only) == 0
    assert place.texts() == finished


def test_no_published_row_is_lost_to_a_folder_that_lacks_its_cell(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(place.out, cells(SMALL))
    assert place.main("--no-run") == 0
    rows, texts = (place.docs / "results.csv").read_text(), place.texts()
    place.out = tmp_path / "other"
    keep(place.out, cells(SMALL)[2:])
    assert place.main("--no-run") == 1
    error = capsys.readouterr().err
    assert f"2 rows of {place.docs / 'results.csv'} would be lost" in error
    assert "the first is source at " in error
    assert "another folder with --docs" in error
    assert ((place.docs / "results.csv").read_text(), place.texts()) == (rows, texts)
    keep(place.out, cells(SMALL)[:2])
    assert place.main("--no-run") == 0
    assert (place.docs / "results.csv").read_text() == rows


def test_rows_that_the_plan_no_longer_has_may_go(place: Place) -> None:
    write_rows(place.docs / "results.csv", measure_all([result("lame:memory=9")]))
    keep(place.out, cells(SMALL))
    assert place.main("--no-run") == 0
    assert {figures.cell for figures in read_csv(place.docs / "results.csv")} == set(cells(SMALL))


def test_missing_cells_are_counted() -> None:
    everything = measure_all(result(*cell) for cell in cells(SMALL))
    assert count_missing(cells(SMALL), everything) == ""
    assert count_missing(cells(SMALL), everything[2:]) == f"2 of {len(everything)} cells are missing"


def test_the_choice_of_hyperparameters_is_part_of_the_page(place: Place) -> None:
    keep(place.out, cells(SMALL))
    write_rows(place.docs / "results-choice.csv", measure_all([result(), result("adabn"), result("iabn:k=4")]))
    assert place.main("--no-run") == 0
    chosen = (place.docs / "results.md").read_text().split("## How hyperparameters were chosen\n")[1]
    assert "| `adabn` | 25.0 | 25.0 |" in chosen


def test_a_folder_without_evaluations_is_an_error(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.main("--no-run") == 1
    assert f"{place.out / 'grid'} holds no evaluation" in capsys.readouterr().err
    Folder(place.out / "grid", KEPT)
    assert place.main("--no-run") == 1
    assert f"{place.out / 'grid'} holds no finished cell" in capsys.readouterr().err
    assert "old" in place.readme.read_text()


def test_a_readme_without_markers_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    keep(place.out, cells(SMALL))
    place.readme.write_text("# Top\n")
    assert place.main("--no-run") == 1
    assert "needs the lines <!-- strategies" in capsys.readouterr().err
    assert place.readme.read_text() == "# Top\n"


def test_the_reading_stands_in_the_page_as_it_is() -> None:
    figures = measure_all([result(), result("bn")])
    reading = "## Reading\n\nIt *helps*: 1 < 2 | 3.\n"
    page = results_page.page(figures, [PrefixErrorRate("bn", "iid", 7, 12.5)], [], {"model": "m"}, reading)
    assert f"| model | m |\n\n{reading}\n## Strategies and their uses" in page
    assert "| `bn` | 12.5 (1) |" in page
    assert "## clean" not in page
