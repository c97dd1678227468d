"""The deadline stream as a user runs it, on the real server; nothing about its speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.load.deadline import plot
from benchmarks.load.deadline.__main__ import main, parser, planned, report
from benchmarks.load.deadline.camera import CameraRecording, FrameAnswer
from benchmarks.load.deadline.queueing import FrameCounts
from benchmarks.load.deadline.report import targets
from benchmarks.load.deadline.results import (
    DeadlineResults,
    DeadlineRound,
    DeadlineRow,
    OfflineRound,
    OfflineRow,
    read,
    write,
)


def results(learner: bool = False) -> DeadlineResults:
    """Two strategies at full utilisation, two rounds; the second answers nine tenths of its frames."""
    slow = FrameCounts(100, 90, 63)
    rounds = [DeadlineRound(10.0, 0.7, slow, slow, 12.0, 0.1), DeadlineRound(11.0, 0.7, slow, slow, 14.0, 0.3)]
    full = [entry._replace(real=FrameCounts(100, 100, 70)) for entry in rounds]
    offline = [
        OfflineRow("source", False, [OfflineRound(0.7, 10.0), OfflineRound(0.7, 12.0)]),
        OfflineRow("slow", learner, [OfflineRound(0.7, 15.0), OfflineRound(0.7, 24.0)]),
    ]
    rows = [DeadlineRow("source", 100, full), DeadlineRow("slow", 100, rounds)]
    return DeadlineResults({"machine": "a test"}, offline, rows)


def test_a_short_run_measures_the_real_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--limit", "4", "--utilisations", "50", "200", "--strategies", "adabn"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    measured = read(tmp_path / "deadline.json")
    assert [(row.strategy, row.utilisation) for row in measured.rows] == [
        (strategy, percent) for percent in (50, 200) for strategy in ("source", "adabn")
    ]
    for row in measured.rows:
        (entry,) = row.rounds
        assert entry.real is not None
        assert entry.real.offered == entry.simulated.offered == 12
        assert 1 <= entry.real.correct <= entry.real.answered <= 12
        assert entry.interval_ms == pytest.approx(100 / row.utilisation * measured.offline[0].frame_ms)
    assert "utility / offline" in capsys.readouterr().out
    assert "![Utility over offline accuracy](images/deadline.png)" in (tmp_path / "deadline.md").read_text()
    assert (tmp_path / "images" / "deadline.png").stat().st_size > 10_000


def test_a_row_states_the_median_of_the_ratios_of_rounds() -> None:
    source, slow = results().rows
    assert (source.ratio, slow.ratio, slow.ratio_over(source)) == pytest.approx((1.0, 0.9, 0.9))
    assert (slow.middle("utility"), slow.middle("answered_share"), slow.middle_ms("latency_ms")) == (0.63, 0.9, 13.0)
    offline = results().offline
    assert offline[1].ratio(offline[0]) == 1.75


def test_the_target_is_for_strategies_without_a_learner() -> None:
    assert [line[0] for line in targets(results())[1:]] == ["source", "slow"]
    assert [line[3] for line in targets(results())[1:]] == ["yes", "**no**"]
    assert [line[0] for line in targets(results(learner=True))[1:]] == ["source"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    simulated = results()
    simulated.rows[1].rounds[0] = simulated.rows[1].rounds[0]._replace(real=None, latency_ms=None, late_ms=None)
    for number, written in enumerate([results(), simulated]):
        write(written, tmp_path / f"{number}.json")
        assert read(tmp_path / f"{number}.json") == written
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a result"):
        read(tmp_path / "other.json")


def test_a_simulated_run_has_utilities_without_times(capsys: pytest.CaptureFixture[str]) -> None:
    simulated = results()
    for row in simulated.rows:
        row.rounds = [entry._replace(real=None, latency_ms=None, late_ms=None) for entry in row.rounds]
    report(simulated, None)
    assert "| slow, 100 % | 63.0 | 90.0 | 70.0 | 70.0 | 0.900 | 0.900 | - | - |" in capsys.readouterr().out


def test_an_interrupted_run_shows_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    interrupted = results()
    interrupted.rows[1].rounds = []
    report(interrupted, None)
    printed = capsys.readouterr().out
    assert "| source, 100 %" in printed
    assert "| slow, 100 %" not in printed
    report(DeadlineResults({}, [OfflineRow("source", False)], []), None)
    assert "nothing was measured" in capsys.readouterr().out


def test_the_picture_is_drawn_again_from_the_file(tmp_path: Path) -> None:
    write(results(), tmp_path / "deadline.json")
    assert plot.main([str(tmp_path / "deadline.json"), str(tmp_path / "again.svg")]) == 0
    assert (tmp_path / "again.svg").exists()


def test_times_of_a_recording_count_from_when_frames_were_due() -> None:
    answers = [FrameAnswer(0, 1, 2.0), FrameAnswer(2, 1, 4.5)]
    recording = CameraRecording(answers, due_s=[1.0, 2.0, 3.0], sent_s=[1.0, 2.0, 3.25])
    assert recording.outcome([1, 1, 0]) == FrameCounts(3, 2, 1)
    assert recording.services_s == [1.0, 2.5]
    assert recording.latency_s == 1.25
    assert recording.late_s == 0.0


def test_source_always_runs_first_and_once() -> None:
    plan = planned(parser().parse_args(["--strategies", "adabn", "source"]))
    assert [spec.text for spec in plan.specs] == ["source", "adabn"]
    assert list(plan.utilisations) == [50, 80, 100, 120]
    assert plan.steps == 3 * 2 * 5
    assert planned(parser().parse_args(["--simulate", "--quick"])).steps == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "nothing"], "nothing"),
        (["--data", "/nowhere"], "not a folder"),
        (["--domains", "rain"], "rain"),
        (["--order", "backwards"], "backwards"),
        (["--limit", "-1"], "limit"),
    ],
)
def test_wrong_arguments_are_errors_in_words(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", *arguments]) == 1
    assert message in capsys.readouterr().err
