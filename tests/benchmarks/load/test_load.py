"""The benchmark of servers as a user runs it, on the real server."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.load.__main__ import main, parser, planned
from benchmarks.load.job import Load
from benchmarks.load.plan import LoadPlan
from benchmarks.load.results import read
from benchmarks.load.run import LoadRun


def test_a_quick_run_measures_the_real_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shortly(given: argparse.Namespace) -> LoadPlan:
        return planned(given)._replace(warm_s=0.1, idle_s=0.2, blocks=1, calls=5)

    monkeypatch.setattr("benchmarks.load.__main__.planned", shortly)
    monkeypatch.setattr("benchmarks.load.run.SETTLE_S", 0.0)
    loads = ["--clients", "2", "--images", "1", "2", "--rates", "20", "--seconds", "0.5", "--strategies", "adabn"]
    assert main(["--quick", "--no-peers", *loads, "--out", str(tmp_path)]) == 0
    results = read(tmp_path / "load.json")
    assert [row.errors for row in results.rows] == [0] * len(results.rows)
    measured = [Load(2), Load(2, 2), Load(2, shared=True), Load(rate=20)]
    assert [row.load for row in results.rows if row.contender == "renorm adabn"] == measured
    assert all(row.middle("images_per_s") > 0 for row in results.rows)
    assert results.addition is not None
    assert results.idle["renorm"].memory > 10_000_000
    said = capsys.readouterr().out
    assert "| adding an idle server" in said
    assert "adding an idle server" in (tmp_path / "load.md").read_text()
    assert (tmp_path / "images" / "load.png").stat().st_size > 10_000


def test_a_server_that_does_not_start_is_an_error_with_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--no-peers", "--serve-args", "--model nothing"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_an_interrupted_run_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: LoadRun) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LoadRun, "everything", interrupted)
    assert main(["--quick"]) == 0
    assert "not measured: the rest: interrupted" in capsys.readouterr().out


def test_the_full_plan_holds_what_is_promised() -> None:
    plan = planned(parser().parse_args([]))
    single = [Load(1), Load(8), Load(32)]
    assert list(plan.closed) == [*single, *(load._replace(images=8) for load in single), Load(32, shared=True)]
    assert [load.rate for load in plan.open] == [50, 100, 200]
    assert plan.heaviest == Load(32)
    assert plan.tuned
    assert plan.peers is not None


def test_single_images_are_always_among_the_loads() -> None:
    plan = planned(parser().parse_args(["--images", "8", "--clients", "4", "--rates"]))
    assert list(plan.closed) == [Load(4, 8), Load(4), Load(4, shared=True)]
    assert list(plan.open) == []
    assert list(planned(parser().parse_args(["--clients", "1", "--images", "1"])).closed) == [Load(1)]


@pytest.mark.parametrize(
    "wrong", [["--seconds", "0"], ["--rounds", "x"], ["--clients", "0"], ["--no-peers", "--peers", "here"]]
)
def test_impossible_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(wrong)
    assert wrong[0] in capsys.readouterr().err
