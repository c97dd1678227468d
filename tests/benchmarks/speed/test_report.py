"""From samples to the targets' table, the page and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.speed import plot as speed_plot
from benchmarks.speed.cases import ALPHA, CHANNELS_LAST, FOLDED, FROZEN, MANY, MIXED, ONE, PLAIN, QUEUED, UNMIX
from benchmarks.speed.plot import COMPILED, EAGER, REFERENCE, TEXTBOOK, bars, draw
from benchmarks.speed.report import notes, page, streams_table, targets, times
from benchmarks.speed.results import CaseGroup, MemoryGrowth, SpeedResults, machine, read, write
from benchmarks.speed.targets import TARGETS, Figure, Target


def group(kind: str = "eager", model: str = "resnet50", batch: int = 1, **seconds: float) -> CaseGroup:
    """Three rounds, the last one on a machine that is ten times as slow."""
    named = {_NAMES.get(name, name): [value, value, 10 * value] for name, value in seconds.items()}
    title = {"resnet50": "ResNet-50", "resnet20": "ResNet-20"}[model]
    return CaseGroup(kind, model, title, 224, batch, named)


_NAMES = {"plain": PLAIN, "last": CHANNELS_LAST, "folded": FOLDED, "frozen": FROZEN, "alpha": ALPHA, "unmix": UNMIX}


def together(**seconds: tuple[float, float, float]) -> CaseGroup:
    found = {
        f"{name}: {label}": [value] * 3
        for name, values in seconds.items()
        for label, value in zip((ONE, MANY, QUEUED), values, strict=True)
    }
    found[f"{MIXED}: {MANY}"] = [2.0, 3.0, 30.0]
    return CaseGroup("streams", "resnet50", "ResNet-50", 224, 32, found)


def results(*groups: CaseGroup, held: MemoryGrowth | None = None) -> SpeedResults:
    return SpeedResults({"machine": "a test"}, list(groups), held)


@pytest.fixture
def whole() -> SpeedResults:
    return results(
        group(plain=1.0, last=0.9, folded=0.8, alpha=1.2, unmix=2.5, source=0.8, adabn=0.9, unmix_tns=1.0),
        group(batch=16, plain=10.0, folded=6.0, unmix=20.0, source=6.0, adabn=7.6, unmix_tns=7.0),
        group(model="resnet20", plain=1.0, adabn=1.4, unmix_tns=1.5),
        group("compiled", plain=1.0, frozen=0.5, adabn=0.55, unmix_tns=0.6),
        group("compiled", "resnet20", plain=1.0, frozen=0.5, adabn=1.0),
        together(adabn=(2.0, 2.2, 2.4), bn=(1.0, 1.0, 1.4)),
        held=MemoryGrowth("resnet50", "ResNet-50", 32, 1000, 100, 104_000),
    )


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    found = CaseGroup("eager", "m", "M", 32, 1, {"a": [1.0, 30.0, 4.0], "b": [2.0, 10.0, 2.0], "c": [0.0, 50.0, 6.0]})
    assert found.ratio("a", "b") == 2.0  # of 0.5, 3 and 2; the ratio of the medians were also 2, that to c is not
    assert found.ratio("a", "b", "c") == 1.0  # of 1, 1 and 1
    assert found.milliseconds("a") == 4000.0


def test_targets_take_the_worst_ratio(whole: SpeedResults) -> None:
    found = [target.worst(whole) for target in TARGETS]
    rounded = [figure and (round(figure.value, 3), figure.of) for figure in found]
    assert rounded == [
        (0.76, "adabn, batch 16"),
        (0.9, "adabn, batch 1"),
        (1.267, "adabn, batch 16"),
        (1.125, "adabn, batch 1"),
        (1.167, "unmix_tns, batch 16"),
        (1.25, "unmix_tns, batch 1"),
        (2.857, "unmix_tns, batch 16"),
        (2.5, "unmix_tns, batch 1"),
        (1.1, "adabn, batch 1"),
        (1.2, "unmix_tns, batch 1"),
        (1.1, "adabn, ResNet-50"),
        (1.5, "ResNet-50"),
        (2.0, "ResNet-50"),
        (1.4, "bn, ResNet-50"),
        (1.5, "unmix_tns, batch 1"),
        (1.0, "adabn, batch 1"),
        (1.04, "1,000 streams, ResNet-50"),
    ]


def test_the_table_of_targets_says_which_are_reached(whole: SpeedResults) -> None:
    rows = targets(whole)
    assert [row[3] for row in rows[1:]] == [
        *("**no**", "yes", "**no**", "yes", "yes", "yes", "yes", "yes", "yes", "yes", "yes", "**no**"),
        *("**no**", "**no**", "**no**", "yes", "yes"),
    ]
    assert rows[8][1:] == ["2.50", ">= 2.50", "yes", "unmix_tns, batch 1"]


def test_targets_without_a_measurement_are_not_reached() -> None:
    rows = targets(results(group(plain=1.0), group("compiled", plain=1.0, adabn=1.0)))
    assert {tuple(row[1::2]) for row in rows[1:]} == {("-", "not measured")}


@pytest.mark.parametrize(
    ("value", "at_least", "reached"), [(1.004, False, True), (1.006, False, False), (0.99, True, False)]
)
def test_a_bound_holds_in_the_digits_that_are_printed(value: float, at_least: bool, reached: bool) -> None:
    target = Target("x", 1.0, lambda _results: iter(()), at_least)
    assert target.reached(Figure(value, "")) is reached


def test_the_table_of_times_has_a_column_per_batch() -> None:
    first = group("compiled", plain=0.002, frozen=0.001, adabn=0.0015)
    second = CaseGroup("compiled", "resnet50", "ResNet-50", 224, 16, {PLAIN: [0.02] * 3}, {"adabn": "no compiler"})
    assert times([first, second]) == [
        ["case", "batch 1, ms", f"/ {PLAIN}", f"/ {FROZEN}", "batch 16, ms", f"/ {PLAIN}"],
        [PLAIN, "2.00", "1.00", "2.00", "20.00", "1.00"],
        [FROZEN, "1.00", "0.50", "1.00", "-", "-"],
        ["adabn", "1.50", "0.75", "1.50", "-", "-"],
    ]


def test_the_table_of_many_streams_compares_with_one_request() -> None:
    assert streams_table(together(adabn=(2.0, 2.2, 2.4)))[1:] == [
        ["adabn", "2000.00", "2200.00", "1.10", "2400.00", "1.20"],
        [MIXED, "-", "3000.00", "-", "-", "-"],
    ]


def test_the_page_holds_every_table_and_each_reason_once(whole: SpeedResults) -> None:
    for batch in (1, 16):
        whole.groups.append(
            CaseGroup("compiled", "resnet50", "ResNet-50", 224, batch, {PLAIN: [1.0]}, {"bn": "no compiler"})
        )
    whole.notes["memory"] = "no /proc"
    assert notes(whole) == ["memory: no /proc", "ResNet-50 at 224 px, bn: no compiler"]
    text = page(whole, "images/speed.png")
    assert "](images/speed.png)" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## ResNet-50 at 224 px, eager",
        "## ResNet-20 at 224 px, eager",
        "## ResNet-50 at 224 px, compiled",
        "## ResNet-20 at 224 px, compiled",
        "## ResNet-50 at 224 px: many requests in one forward",
    ]
    assert text.count("no compiler") == 1
    assert "- machine: a test" in text


def test_results_are_read_as_written(whole: SpeedResults, tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    write(whole, path)
    assert read(path) == whole


@pytest.mark.parametrize(
    "text", ["", "[]", '{"groups": []}', '{"machine": {}, "groups": [1], "held": null, "notes": {}}']
)
def test_files_of_another_format_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    assert speed_plot.main([str(path), str(tmp_path / "out.png")]) == 1
    assert "benchmarks.speed --out" in capsys.readouterr().err


def test_the_machine_is_described() -> None:
    facts = machine("cpu", 7)
    assert facts["rounds"] == "7, with many streams 4; medians"
    assert all(facts.values())
    assert "cores" in facts["machine"]


def test_bars_are_relative_to_plain_eval_and_coloured_by_who_wrote_it(whole: SpeedResults) -> None:
    assert bars(whole, whole.groups[0]) == [
        (PLAIN, 1.0, REFERENCE),
        (CHANNELS_LAST, 0.9, REFERENCE),
        (FOLDED, 0.8, REFERENCE),
        (ALPHA, 1.2, TEXTBOOK),
        (UNMIX, 2.5, TEXTBOOK),
        ("source", 0.8, EAGER),
        ("adabn", 0.9, EAGER),
        ("unmix_tns", 1.0, EAGER),
        (FROZEN, 0.5, REFERENCE),
        ("adabn, compiled", 0.55, COMPILED),
        ("unmix_tns, compiled", 0.6, COMPILED),
    ]


def test_the_picture_shows_longer_bars_for_longer_times(tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "speed.png"
    draw(results(group(plain=1.0, adabn=2.0)), out)
    with Image.open(out) as picture:
        pixels = list(picture.convert("RGB").get_flattened_data())
    grey, blue = pixels.count((0x9A, 0xA0, 0xA6)), pixels.count((0x1A, 0x73, 0xE8))
    assert 1.8 < blue / grey < 2.2


def test_a_run_without_times_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--models"):
        draw(results(), tmp_path / "speed.png")
