"""The tables and the picture of a run under load."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.load import plot as load_plot
from benchmarks.load.job import Load, Tally
from benchmarks.load.report import faults, loads, page, servers, targets, tried
from benchmarks.load.results import Addition, IdleUsage, LoadResults, LoadRow, PeerTrial, read, write

ONE, MANY, SHARED, RATE = Load(), Load(32), Load(32, shared=True), Load(rate=50)


def tally(images_per_s: float, errors: int = 0, p50: float = 10.0) -> Tally:
    return Tally(images_per_s, p50, 2 * p50, 0.5, 10, errors, "status 503: busy" * bool(errors))


@pytest.fixture
def results() -> LoadResults:
    rows = [
        LoadRow("renorm adabn", ONE, [tally(100), tally(120), tally(110)]),
        LoadRow("renorm adabn", MANY, [tally(400), tally(600), tally(200)]),
        LoadRow("LitServe", MANY, [tally(500), tally(400), tally(100)]),
        LoadRow("renorm adabn, form", MANY, [tally(250), tally(200), tally(50)]),
        LoadRow("renorm adabn", SHARED, [tally(300, errors=2)]),
        LoadRow("renorm adabn", RATE, [tally(50)]),
        LoadRow("LitServe", RATE, [tally(50)]),
    ]
    return LoadResults(
        {"machine": "small"},
        "adabn",
        rows,
        [PeerTrial("LitServe", "no batching", "form", tally(500), tally(1, p50=7.0))],
        {"renorm": IdleUsage(0.2, 200_000_000), "LitServe": IdleUsage(98.0, 500_000_000)},
        Addition([9.0, 10.0, 30.0], [8.0, 8.5, 28.6]),
        {"LitServe": 1.0},
        {"MLServer": "could not be installed"},
    )


def test_targets_tell_what_was_reached(results: LoadResults) -> None:
    table = {row[0].partition(":")[0]: row[1:] for row in targets(results)[1:]}
    assert table["adding an idle server"] == ["+1.40 ms", "<= +1.5 ms", "yes"]
    # Round by round 0.8, 1.5 and 2.0: the median of ratios, not the ratio of medians.
    assert table["throughput at 32 clients, renorm adabn, against LitServe without adaptation"] == [
        "1.50",
        ">= 1.0",
        "yes",
    ]
    assert table["throughput at 32 clients, renorm adabn, form, against LitServe without adaptation"] == [
        "0.50",
        "-",
        "",
    ]
    assert table["idle CPU of the server"] == ["0.2 %", "< 1 %", "yes"]
    assert not any("MLServer" in name for name in table)


def test_missed_targets_and_missing_figures_are_told_apart(results: LoadResults) -> None:
    results.addition = Addition([10.0], [8.0])
    results.idle = {}
    results.rows = results.rows[:2]
    reached = [row[3] for row in targets(results)[1:]]
    assert reached == ["**no**", "not measured", "not measured"]
    assert [row[3] for row in targets(LoadResults({}, "adabn"))[1:]] == ["not measured", "not measured"]


def test_loads_are_rows_and_contenders_columns_ours_first(results: LoadResults) -> None:
    head, *rows = loads(results, closed=True)
    assert head == ["load", "renorm adabn", "renorm adabn, form", "LitServe"]
    assert [row[0] for row in rows] == [load.label for load in (ONE, MANY, SHARED)]
    assert rows[0][1:] == ["110 / 10.0 / 20.0", "-", "-"]
    assert rows[2][1] == "300 / 10.0 / 20.0 (2 errors)"
    assert loads(results, closed=False)[1] == ["50 requests/s x 1 image", "50.0 / 10.0 / 20.0", "50.0 / 10.0 / 20.0"]


def test_servers_and_ways_that_were_tried(results: LoadResults) -> None:
    assert servers(results)[1:] == [
        ["renorm", "0.2", "200", "0.50", "-"],
        ["LitServe", "98.0", "500", "0.50", "100 %"],
    ]
    assert tried(results)[1:] == [["LitServe", "no batching", "form", "500", "7.00"]]


def test_errors_are_told(results: LoadResults) -> None:
    assert faults(results) == [f"renorm adabn, {SHARED.label}: 2 errors, the first: status 503: busy"]


def test_the_page_holds_everything(results: LoadResults) -> None:
    text = page(results, "images/load.png")
    assert "![Throughput and latency of each server](images/load.png)" in text
    assert "not measured: MLServer: could not be installed" in text
    assert "status 503: busy" in text
    assert all(row[0] in text for row in [*targets(results), *tried(results), *servers(results)])


def test_a_run_is_kept_and_read_again(results: LoadResults, tmp_path: Path) -> None:
    results.rows.append(LoadRow("renorm source", ONE, [tally(math.nan)]))
    write(results, tmp_path / "load.json")
    again = read(tmp_path / "load.json")
    assert page(again, "x") == page(results, "x")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"benchmarks\.load"):
        read(tmp_path / "other.json")


def test_an_interrupted_run_is_shown_as_far_as_it_came(results: LoadResults, tmp_path: Path) -> None:
    results.rows[2] = LoadRow("LitServe", MANY, [])
    results.rows[5] = LoadRow("renorm adabn", RATE, [tally(math.nan, p50=math.nan)])
    assert results.ratio("renorm adabn", "LitServe", MANY) is None
    assert "| - |" in page(results, "x")
    load_plot.draw(results, tmp_path / "load.png")


def test_the_picture_shows_every_contender(results: LoadResults, tmp_path: Path) -> None:
    write(results, tmp_path / "load.json")
    out = tmp_path / "images" / "load.png"
    assert load_plot.main([str(tmp_path / "load.json"), str(out)]) == 0
    with Image.open(out) as picture:
        drawn = set(picture.convert("RGB").get_flattened_data())
    colours = load_plot.colours(results)
    assert list(colours) == ["renorm adabn", "renorm adabn, form", "LitServe"]
    assert all(tuple(bytes.fromhex(colour[1:])) in drawn for colour in colours.values())


def test_every_latency_in_the_picture_is_named_and_numbered(
    results: LoadResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, _: saved.append(figure))
    load_plot.draw(results, tmp_path / "load.png")
    axes = saved[0].axes[1]
    rows = [row for row in results.rows if row.load.rate]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(f"{row.contender},\n{row.load.rate:g} requests/s" for row in rows)
    told = {text.get_text().split()[-1] for text in axes.texts}
    assert told == {f"{row.middle(name):.1f}" for row in rows for name in ("p50", "p99")}
    assert axes.get_xlim()[0] == 0


def test_a_run_without_a_measurement_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(LoadResults({}, "adabn"), tmp_path / "load.json")
    assert load_plot.main([str(tmp_path / "load.json"), str(tmp_path / "load.png")]) == 1
    assert "no measurement" in capsys.readouterr().err
