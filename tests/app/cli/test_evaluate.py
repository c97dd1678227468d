"""`renorm evaluate`: from options to a report, going on after a stop, and one clear line for what is wrong."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.cli.evaluate.progress import Lines, cells_progress
from app.errors import MissingPackageError, UnanswerableError
from app.evaluation.running.cells import Folder
from app.evaluation.running.drivers import EngineDriver
from app.evaluation.types import Cell
from tests.app.evaluation.small_data import write_data

QUICK = ("--strategies", "source,adabn:momentum=0.5", "--batch-size", "8", "--order", "iid", "--limit", "16")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that heeds Ctrl-C, also where whoever runs the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return write_data(folder, 32, 10)


@pytest.fixture
def evaluate(data: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(*options: object, **other: Any) -> Result:
        standard = {"--data": data, "--output": tmp_path / "out", "--device": "cpu", **other}
        given = [str(word) for pair in standard.items() if pair[1] is not None for word in pair]
        return CliRunner().invoke(cli, ["evaluate", *given, *map(str, options)])

    return run


def finished(result: Result) -> str:
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stderr


def refusal(result: Result, status: int) -> str:
    """The last line of a command that ended with ``status``."""
    assert result.exit_code == status, result.output + repr(result.exception)
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("renorm: ")
    return last


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_help_has_examples_and_loads_nothing_heavy() -> None:
    shown = CliRunner().invoke(cli, ["evaluate", "--help"])
    assert shown.exit_code == 0
    assert "renorm evaluate --data cifar10c --output results" in shown.stdout
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom app.cli import cli\n"
        "assert CliRunner().invoke(cli, ['evaluate', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'fastapi', 'httpx', 'matplotlib') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "[]\n"


def test_from_data_to_a_report_and_on_with_more(
    evaluate: Callable[..., Result], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    result = evaluate(*QUICK)
    said = finished(result)
    assert "4 cells: 2 strategies, 2 streams, requests of 8" in said
    # Of fog and snow 16 images each, and as many clean ones; by two strategies.
    assert "96 images to predict\n" in said
    assert "100 % of 96 images" in said
    assert "renorm: mean errors: source " in said.partition("measuring the throughput")[0]
    assert "adabn:momentum=0.5" in result.stdout
    assert "continual" not in result.stdout.splitlines()[2], "the frozen model has no worst place"
    assert str(out / "report.md") in result.stdout
    assert {(row["strategy"], row["protocol"]) for row in rows(out)} == {
        (strategy, protocol) for strategy in ("source", "adabn:momentum=0.5") for protocol in ("continual", "clean")
    }
    assert all(float(row["images_per_s"]) > 0 for row in rows(out))
    report = (out / "report.md").read_text()
    assert "snow" in report
    assert list((out / "plots").glob("*.png"))
    before = {file: file.stat().st_mtime_ns for file in (out / "cells").iterdir()}

    more = [word.replace("source,", "bn,source,") for word in QUICK]
    said = finished(evaluate(*more))
    assert "48 images to predict, 4 cells already finished" in said
    assert [row["strategy"] for row in rows(out)] == ["bn", "bn", "source", "source", *["adabn:momentum=0.5"] * 2]
    assert {file: file.stat().st_mtime_ns for file in before} == before

    request.getfixturevalue("without_pictures")  # which were drawn twice
    said = refusal(evaluate(*QUICK[:-1], "8"), 2)
    assert "limit was 16, now 8" in said
    assert "48 images to predict\n" in finished(
        evaluate(*QUICK[:-1], "8", "--anew", **{"--output": tmp_path / "other"})
    )

    replayed = evaluate(*QUICK[:4], "--no-speed", "--streams", out / "streams", **{"--output": tmp_path / "again"})
    finished(replayed)
    for row, other in zip(rows(tmp_path / "again"), rows(out)[2:], strict=True):
        assert (row["strategy"], row["protocol"], row["error"]) == (
            other["strategy"],
            other["protocol"],
            other["error"],
        )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--strategies", "magic"], "'magic' cannot be evaluated: unknown strategy"),
        (["--strategies", "adabn:speed=1"], "speed"),
        (["--strategies", "adabn:momentum=7"], "momentum"),
        (["--strategies", "momentum=7"], "without a strategy before it"),
        (["--protocol", "magic"], "unknown protocol 'magic'"),
        (["--protocol", "gradual"], "five severities"),
        (["--order", "iid,magic"], "unknown order 'magic'"),
        (["--order", "dirichlet:-1"], "dirichlet"),
        (["--batch-size", "4,0"], "--batch-size must be positive integers, such as 1,64, not '0'"),
        (["--batch-size", "x"], "not 'x'"),
        (["--severity", "3"], "severity 3"),
        (
            ["--url", "http://127.0.0.1:1", "--model", "cifar10-resnet20"],
            "--model cannot be used with --url: leave it out",
        ),
        (["--url", "http://127.0.0.1:1", "--processes", "2"], "--processes"),
        (["--order", "stretches:0"], "'stretches:0' needs a number of images"),
        (["--protocol", "walk", "--difficulty", "extreme"], "unknown difficulty 'extreme'; choose from easy, medium"),
        (["--protocol", "walk", "--domains", "fog"], "a walk needs at least two corruptions"),
        (["--streams", "x", "--step-images", "2"], "--step-images cannot be used with --streams: leave it out"),
        (["--streams", "x", "--seeds", "2"], "--seeds cannot be used with --streams: leave it out"),
        (["--streams", "x"], "x contains no saved stream"),
    ],
)
def test_invalid_options_are_one_line_before_anything_runs(
    evaluate: Callable[..., Result], tmp_path: Path, options: list[str], told: str
) -> None:
    # With a server there is no device to choose.
    more = {"--device": None} if "--processes" in options else {}
    result = evaluate(*options, **more)
    assert told in refusal(result, 2)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_data_and_folders_that_are_none(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    assert "is not a folder" in refusal(evaluate(*QUICK, **{"--data": tmp_path / "none"}), 2)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(evaluate(*QUICK, **{"--output": tmp_path / "file"}), 2)


def test_a_server_that_is_not_there(evaluate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    result = evaluate(*QUICK, "--url", "127.0.0.1:1", **{"--device": None})
    assert "must begin with http://" in refusal(result, 2)
    monkeypatch.setattr("app.client.exchange.pause_before_retry", lambda *_, **__: None)
    result = evaluate(*QUICK, "--url", "http://127.0.0.1:1", **{"--device": None})
    assert "http://127.0.0.1:1" in refusal(result, 1)


@pytest.mark.usefixtures("interruptible", "without_pictures")
def test_interrupt_saves_finished_cells_and_tells_how_to_resume(
    evaluate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Folder.keep

    def keep_and_stop(self: Folder, *args: Any) -> None:
        keep(self, *args)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Folder, "keep", keep_and_stop)
    said = refusal(evaluate(*QUICK, "--together", "1"), 130)
    assert f"finished cells are saved in {tmp_path / 'out'}" in said
    assert "the same command resumes" in said
    assert len(list((tmp_path / "out" / "cells").glob("*"))) == 1
    assert not (tmp_path / "out" / "report.md").exists()
    monkeypatch.setattr(Folder, "keep", keep)
    assert "1 cell already finished" in finished(evaluate(*QUICK, "--no-speed"))
    assert len(rows(tmp_path / "out")) == 4


@pytest.mark.usefixtures("without_pictures")
def test_a_strategy_that_fails_later_is_named_and_the_rest_is_reported(
    evaluate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = EngineDriver.predict

    async def diverging(self: EngineDriver, images: Any, stream: str, strategy: str, *args: Any, **more: Any) -> Any:
        if strategy == "adabn" and more.get("update", True):
            raise UnanswerableError("not finite")
        return await predict(self, images, stream, strategy, *args, **more)

    monkeypatch.setattr(EngineDriver, "predict", diverging)
    result = evaluate(*QUICK)
    assert result.exit_code == 1
    assert "adabn:momentum=0.5 failed at clean, iid, requests of 8, seed 0: not finite" in result.stderr
    assert {row["strategy"] for row in rows(tmp_path / "out")} == {"source"}
    only = [word.replace("source,", "") for word in QUICK]
    assert "all cells failed" in refusal(evaluate(*only, **{"--output": tmp_path / "other"}), 1)


def test_without_matplotlib_there_is_a_report_all_the_same(
    evaluate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingPackageError("pictures need matplotlib", hint="pip install 'renorm[eval]'")

    monkeypatch.setattr("app.evaluation.plots.write.write_plots", missing)
    said = finished(evaluate(*QUICK, "--no-speed", "--protocol", "clean"))
    assert "no plots: pictures need matplotlib; pip install 'renorm[eval]'" in said
    assert (tmp_path / "out" / "report.md").is_file()


@pytest.mark.usefixtures("without_pictures")
def test_lists_are_given_with_commas_or_repeated_and_lack_of_source_is_noted(
    evaluate: Callable[..., Result], tmp_path: Path
) -> None:
    options = ("--protocol", "single", "--protocol", "mixed,clean", "--order", "iid,sorted", "--batch-size", "8")
    said = finished(evaluate("--strategies", "bn", *options, "--batch-size", "16", "--seeds", "2", "--no-speed"))
    assert "24 cells: 1 strategy, 12 streams, requests of 8, 16" in said
    assert "without the strategy source" in said
    assert len(rows(tmp_path / "out")) == 24
    streams = {file.stem for file in (tmp_path / "out" / "streams").iterdir()}
    assert {"single_iid_s0", "mixed_sorted_s1", "clean_iid_s1"} < streams
    assert len(streams) == 12


def test_lines_of_progress_come_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    cell = Cell("bn", "single", "iid", 1, 0)
    with cells_progress({"bn": 150, "source": 50}) as told:
        for i in range(200):
            told(cell, 1, i % 4 == 0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" %")[0] for line in lines] == [f"renorm: {tenth}0" for tenth in range(1, 11)]
    assert "of 200 images, error so far 25.0 %, about 0 s left" in lines[-1]


def test_lines_of_progress_come_in_time_however_little_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    cell, now = Cell("bn", "single", "iid", 1, 0), [0.0]
    lines = Lines(1000, lambda: now[0])
    for _ in range(50):
        now[0] += 1.0
        lines.count(cell, 1, 0)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" of")[0] for line in said] == [f"renorm: {percent} %" for percent in (1, 2, 3, 4, 5)]
    assert "about 950 s left" not in said[0]
    assert "about 16 min left" in said[-1]


def test_bars_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with cells_progress({"bn": 4, "adabn:m=[1]": 4}) as told:
        told(Cell("bn", "single", "iid", 4, 0), 4, 1)
    shown = capsys.readouterr().err
    assert "all strategies" in shown
    assert "adabn:m=[1]" in shown
    assert "4/8" in shown
    assert "error 25.0 %" in shown


@pytest.mark.usefixtures("without_pictures")
def test_images_of_any_size_are_sent(evaluate: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    for name in ("fog", "snow", "clean"):
        np.save(data / f"{name}.npy", np.random.default_rng(1).integers(0, 256, (24, 40, 36, 3), dtype=np.uint8))
    finished(evaluate(*QUICK, "--no-speed"))
    assert len(rows(tmp_path / "out")) == 4
