"""Tests of `report.md`: tables, harm, pictures and their order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from app.evaluation.report.report import write_report
from app.evaluation.types import Result
from tests.app.evaluation.made import DOMAINS, result, study

SMALL = [
    result("source", wrong=[1, 1, 1, 0], domain=[0, 0, 1, 1], state_bytes=0),
    result("source", "clean", wrong=[0, 0, 0, 1]),
    result("source", batch=16, wrong=[1, 1, 0, 0], seconds=0.001),
    result("bn", wrong=[1, 0, 0, 0], domain=[0, 0, 1, 1], state_bytes=5504),
    result("bn", "clean", wrong=[0, 1, 1, 1], state_bytes=5504),
    result("x|y", batch=16, wrong=[1, 1, 1, 0]),
]

RESTS = {0: (1, 1, 1), 1: (1, 1, 2)}
"""Seeds and the last labels of their streams: runs of 3 and 3, and of 3, 2 and 1."""


def _report(
    folder: Path,
    results: Sequence[Result] = SMALL,
    about: Mapping[str, str] = MappingProxyType({}),
    domains: Sequence[str] = (),
    plots: Sequence[Path] = (),
) -> str:
    path = write_report(folder, results, about, domains=domains, plots=plots)
    assert path == folder / "report.md"
    return path.read_text(encoding="utf-8")


def _tables(report: str) -> list[list[list[str]]]:
    """Every table as rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", report, re.MULTILINE)
    return [[[c.strip() for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in block.splitlines()] for block in blocks]


def test_the_overview(tmp_path: Path) -> None:
    overview = _tables(_report(tmp_path))[0]
    assert overview[0][7] == "images/s, requests of 4 / 16"
    rows = {row[0]: row[1:] for row in overview[2:]}
    assert rows["`source`"][:2] == ["62.5", "+0.0"]
    assert rows["`bn`"] == [
        "25.0 (1 of 2 places)",
        "-50.0",
        "+50.0",
        "clean, iid, requests of 4",
        "+50.0",
        "15.0",
        "2 / -",
        "5,504",
    ]
    assert rows[r"`x\|y`"][:5] == ["75.0 (1 of 2 places)", "+25.0", "+25.0", "continual, iid, requests of 16", "-"]


def test_unmeasured_speeds_have_no_column(tmp_path: Path) -> None:
    results = [result("source", seconds=math.nan), result("bn", seconds=math.nan)]
    head = _tables(_report(tmp_path, results))[0][0]
    assert head[-2:] == ["ECE %", "state bytes"]


def test_only_strategies_run_everywhere_compete_for_the_best_mean(tmp_path: Path) -> None:
    results = [
        result("source"),
        result("source", batch=8),
        result("bn", wrong=[0] * 4),
        result("adabn"),
        result("adabn", batch=8),
    ]
    column = [row[1] for row in _tables(_report(tmp_path, results))[0][2:]]
    assert column == ["**25.0**", "0.0 (1 of 2 places)", "**25.0**"]


def test_a_table_for_each_protocol_and_order(tmp_path: Path) -> None:
    report = _report(tmp_path)
    continual, clean = _tables(report)[1:3]
    assert continual == [
        ["error %, requests of", "4", "16"],
        ["---", "---:", "---:"],
        ["`source`", "75.0", "**50.0**"],
        ["`bn`", "**25.0 (-50.0)**", "-"],
        [r"`x\|y`", "-", "75.0 (+25.0)"],
    ]
    assert clean[2:] == [["`source`", "**25.0**"], ["`bn`", "75.0 (+50.0)"], [r"`x\|y`", "-"]]
    assert report.index("## continual, iid") < report.index("## clean, iid")
    assert "Standard deviation" not in report


def test_seeds_are_averaged_and_their_spread_is_reported(tmp_path: Path) -> None:
    results = [
        result(seed=0, wrong=[1, 1, 0, 0]),
        result(seed=1, wrong=[0] * 4),
        result("bn", seed=0),
        result("bn", seed=1),
    ]
    report = _report(tmp_path, results)
    assert _tables(report)[1][2:] == [["`source`", "**25.0**"], ["`bn`", "**25.0 (+0.0)**"]]
    assert "Standard deviation over seeds: 17.7 points in the mean, 35.4 at most." in report
    assert "2 seeds" in report


def test_the_runs_of_one_class_of_each_stream_are_reported(tmp_path: Path) -> None:
    results = [result(order="sorted", seed=seed, wrong=[0] * 6, label=[0, 0, 0, *rest]) for seed, rest in RESTS.items()]
    section = _report(tmp_path, results).split("## continual, sorted")[1].split("\n## ")[0]
    assert "\nRuns of one class: 2.5 images in the mean, 2.5 in the median.\n" in section, "means over two seeds"


def test_recovery_and_visits_are_reported_by_place(tmp_path: Path) -> None:
    domain = [0] * 100 + [1] * 100
    bad = [0] * 100 + [1] * 30 + [0] * 70
    continual = [result(name, wrong=wrong, domain=domain) for name, wrong in (("source", [0] * 200), ("bn", bad))]
    report = _report(tmp_path, continual)
    table = _tables(report.split("## After a change of domain")[1])[0]
    assert table[0][-2:] == ["recovery, images", "90 %"]
    assert table[2:] == [["`source`", "continual", "iid", "4", "0", "0"], ["`bn`", "continual", "iid", "4", "29", "29"]]
    assert "Visits" not in report
    recurring = result("bn", "recurring", wrong=[*bad, *[0] * 200], domain=domain * 2)
    table = _tables(_report(tmp_path, [*continual, recurring]).split("## After a change of domain")[1])[0]
    assert table[-1] == ["`bn`", "recurring", "iid", "4", "10", "23", "15.0", "0.0"]
    assert table[-2][-2:] == ["-", "-"]
    assert "## After a change of domain" not in _report(tmp_path)


def test_harm_lists_places_worse_than_source(tmp_path: Path) -> None:
    places = [(order, batch) for order in ("a", "b", "c", "d", "e", "f", "g") for batch in (1, 2)]
    results = [result("source", "mixed", order, batch, wrong=[0] * 100) for order, batch in places]
    results += [result("source", "clean", wrong=[0] * 100), result("bn", "clean", wrong=[1] * 5 + [0] * 95)]
    results += [result("bn", "mixed", o, b, wrong=[1] * (ord(o) - 90) + [0] * (190 - ord(o))) for o, b in places]
    results += [result("fine", "clean", wrong=[1] + [0] * 99), result("alone", "single")]
    text = _report(tmp_path, results).split("## Where it hurts")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert lines == [
        "- `bn`: 15 of 15 places (worst +13.0): **clean, iid**, requests of 4 (+5.0); "
        "**mixed, g**, requests of 1 (+13.0), 2 (+13.0); **mixed, f**, requests of 1 (+12.0), 2 (+12.0); "
        "**mixed, e**, requests of 1 (+11.0), 2 (+11.0); **mixed, d**, requests of 1 (+10.0), 2 (+10.0); "
        "**mixed, c**, requests of 1 (+9.0), 2 (+9.0); and 2 more.",
        "- Nowhere by more than 1 point: `fine`.",
        "- Unknown, because `source` was not run at the same places: `alone`.",
    ]


def test_domain_table_has_its_longer_side_as_rows(tmp_path: Path) -> None:
    by_strategy = _tables(_report(tmp_path, domains=DOMAINS))[-1]
    assert by_strategy[0] == ["error %", "fog", "snow"]
    assert by_strategy[3] == ["`bn`", "50.0", "0.0"]
    assert by_strategy[4][2] == "-"
    results = [result(wrong=[1, 0, 1, 1], domain=[0, 1, 2, 3])]
    by_domain = _tables(_report(tmp_path, results, domains=DOMAINS))[-1]
    assert by_domain[0] == ["error %", "`source`"]
    assert by_domain[2:] == [["fog", "100.0"], ["snow", "0.0"], [r"a\|b$c_d", "100.0"], ["domain 3", "100.0"]]


def test_clean_streams_alone_have_a_report(tmp_path: Path) -> None:
    report = _report(tmp_path, [result("source", "clean"), result("bn", "clean")])
    assert _tables(report)[0][2][1] == "-"
    assert "## Domains" not in report


def test_report_contains_settings_and_pictures(tmp_path: Path) -> None:
    plots = [
        tmp_path / "plots" / f"{name}.png" for name in ("differences", "error_over_stream_4", "reliability", "own")
    ]
    report = _report(tmp_path, about={"model": "a|b", "command": "renorm\nevaluate <x>"}, plots=plots)
    assert _tables(report)[0][2:] == [["model", r"a\|b"], ["command", "renorm evaluate &lt;x>"]]
    links = re.findall(r"!\[(.*?)\]\((.*?)\)", report)
    assert [link for _, link in links] == [plot.relative_to(tmp_path).as_posix() for plot in plots]
    assert links[1][0] == "error over stream 4"
    for title, link in (("Over the stream", "error"), ("Confidence", "reliab"), ("Other pictures", "own")):
        assert re.search(rf"## {title}\n\n!\[{link}", report)
    assert "## Over the stream" not in _report(tmp_path)


def test_report_of_a_study_is_deterministic(tmp_path: Path) -> None:
    first, second = (_report(tmp_path / name, study(), domains=DOMAINS) for name in "ab")
    assert first == second
    assert (tmp_path / "a/results.csv").read_bytes() == (tmp_path / "b/results.csv").read_bytes()
    assert "nan" not in first
    assert all(len({len(row) for row in table}) == 1 for table in _tables(first))
    assert len(_tables(first)) == 1 + 6 + 1


def test_empty_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results"):
        write_report(tmp_path / "new", [], {})
    assert not (tmp_path / "new").exists()
