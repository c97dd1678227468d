"""Pictures: that they are drawn, whole and apart from each other, whatever the results."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from app.errors import MissingPackageError
from app.evaluation.curves import mean_curve, running_mean
from app.evaluation.metrics import Place, measure_all, summarize
from app.evaluation.plots import canvas, heatmap
from app.evaluation.plots.canvas import MISSING, escape, line_styles
from app.evaluation.plots.curves import draw_drift, draw_errors
from app.evaluation.plots.heatmap import draw_differences
from app.evaluation.plots.reliability import draw_reliability
from app.evaluation.plots.write import write_plots
from app.evaluation.types import Result
from tests.app.evaluation.made import DOMAINS, result, study

NAMES = ["differences", "error_over_stream_1", "error_over_stream_16", "drift_over_stream", "reliability"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure that is saved, by its name."""
    figures: dict[str, Figure] = {}
    write = canvas._write

    def keep(figure: Figure, path: Path) -> None:
        figures[path.stem] = figure
        write(figure, path)

    monkeypatch.setattr(canvas, "_write", keep)
    return figures


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure by its name, laid out but not painted: for tests that ask where its parts are."""
    figures: dict[str, Figure] = {}

    def keep(figure: Figure, path: Path) -> None:
        figures[path.stem] = figure
        figure.draw_without_rendering()

    monkeypatch.setattr(canvas, "_write", keep)
    return figures


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_picture_of_a_study(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    paths = write_plots(
        tmp_path / "plots", study(orders=("iid",), batches=(1, 16), seeds=(0,), images=30), domains=DOMAINS
    )
    assert [path.stem for path in paths] == NAMES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    titles = [axes.get_title("left") for axes in drawn["error_over_stream_1"].axes]
    assert titles == ["continual, iid", "mixed, iid", "clean, iid"]
    assert [len(axes.lines) for axes in drawn["error_over_stream_1"].axes[1:]] == [3, 3]
    assert {"fog", "snow", r"a|b\$c d"} == set(_texts(drawn["error_over_stream_1"]))
    assert [axes.get_title() for axes in drawn["reliability"].axes] == ["source", "adabn", "bn+lame:memory=64"]


def test_cells_of_the_heat_map(tmp_path: Path, laid_out: dict[str, Figure]) -> None:
    results = [
        result("source", wrong=[1, 1, 0, 0]),
        result("bn"),
        result("source", batch=16),
        result("adabn", batch=16),
        result("bn", "clean"),
    ]
    draw_differences(tmp_path, summarize(measure_all(results)))
    axes = laid_out["differences"].axes[0]
    texts = [text.get_text() for text in axes.texts[:9]]
    assert texts == ["50.0", "25.0", "-", "-25.0", "-", "-", "-", "+0.0", "-"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["source (error, %)", "bn", "adabn"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "16", "4"]
    colours = np.asarray(axes.images[0].get_array())
    assert colours[1, 0, 2] > colours[1, 0, 0], "better is blue"
    np.testing.assert_array_equal(colours[1, 1], colours[0, 0])


def test_worse_than_source_is_red(tmp_path: Path, laid_out: dict[str, Figure]) -> None:
    draw_differences(tmp_path, summarize(measure_all([result("source"), result("bn", wrong=[1] * 4)])))
    red, _, blue, _ = np.asarray(laid_out["differences"].axes[0].images[0].get_array())[1, 0]
    assert red > blue


def test_wide_studies_are_cut_between_orders() -> None:
    places = [Place("mixed", order, batch) for order in "abcdefgh" for batch in range(1, 11)]
    rows = heatmap._rows(places)
    assert [len(row) for row in rows] == [30, 30, 20]
    assert [place for row in rows for place in row] == places


@pytest.mark.parametrize(
    ("sizes", "widest", "rows"),
    [
        ((4,) * 10, 36, [20, 20]),
        ((4,) * 10, 12, [12, 12, 12, 4]),
        ((4,) * 9, 16, [12, 12, 12]),
        ((5,), 3, [5]),
        ((2, 2), 36, [4]),
    ],
    ids=["two-alike", "groups-stay-whole", "three-alike", "one-too-wide", "one"],
)
def test_rows_of_places_are_about_as_long(sizes: tuple[int, ...], widest: int, rows: list[int]) -> None:
    places = [Place("mixed", str(order), batch) for order, size in enumerate(sizes) for batch in range(size)]
    assert [len(row) for row in heatmap._rows(places, widest)] == rows


def test_pictures_fit_a_page_and_last_rows_are_filled(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    names = ["source", "adapter+" + "x" * 40, *(f"adapter{i}" for i in range(5))]
    write_plots(tmp_path, study(names, ("single", "mixed", "clean"), ("iid", "ptta", "sorted"), (4,), (0,), 8))
    wide = study(names, ("single", "mixed", "clean"), ("iid", "ptta", "sorted"), (1, 4, 16, 64), (0,), 8)
    draw_differences(tmp_path, summarize(measure_all(wide)))
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width <= 1600, path.name
    for name in ("error_over_stream_4", "drift_over_stream"):
        axes = drawn[name].axes
        assert len(axes) == 9
        first, last = axes[0].get_position(), axes[-1].get_position()
        right = axes[1].get_position()
        assert last.x0 == pytest.approx(first.x0, abs=0.02)
        assert last.x1 == pytest.approx(right.x1, abs=0.02)
    tiles = drawn["reliability"].axes
    assert len(tiles) == 7
    assert len({round(tile.get_position().y0, 2) for tile in tiles}) * 4 - len(tiles) == 1, "the last row lacks one"


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (6, 6), (7, 4), (13, 5), (18, 6), (19, 5)])
def test_last_rows_are_as_full_as_can_be(count: int, columns: int) -> None:
    assert canvas.even_columns(count, 6) == columns


def test_panels_of_a_picture_have_one_axis(tmp_path: Path, laid_out: dict[str, Figure]) -> None:
    results = [result("bn", "mixed", wrong=[0, 0, 0, 1] * 2), result("bn", "clean", wrong=[1] * 8)]
    results = [results[0], replace(results[1], drift=100 * results[1].drift)]
    write_plots(tmp_path, results)
    for name in ("drift_over_stream", "error_over_stream_4"):
        (limits,) = {axes.get_ylim() for axes in laid_out[name].axes}
        highest = max(float(np.max(line.get_ydata())) for axes in laid_out[name].axes for line in axes.lines)
        assert limits[0] == 0, name
        assert limits[1] > highest, f"{name}: a line leaves the picture"


@pytest.mark.parametrize("batches", [(64,), (1, 64), (1, 4, 16, 64)], ids=["one-size", "two-sizes", "four-sizes"])
def test_heads_of_places_do_not_overlap(tmp_path: Path, laid_out: dict[str, Figure], batches: tuple[int, ...]) -> None:
    results = study(("source", "bn"), ("continual", "recurring"), ("iid", "dirichlet:0.1"), batches, (0,), 8)
    draw_differences(tmp_path, summarize(measure_all(results)))
    figure = laid_out["differences"]
    heads = [text for text in figure.axes[0].texts if any(letter.isalpha() for letter in text.get_text())]
    assert len(heads) == 4
    boxes = [head.get_window_extent() for head in heads]
    assert all(box.count_overlaps(boxes[i + 1 :]) == 0 for i, box in enumerate(boxes))
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_error_curves_are_smoothed_with_a_labelled_band(tmp_path: Path, laid_out: dict[str, Figure]) -> None:
    wrong = (np.random.default_rng(2).random(200) < 0.4).tolist()
    draw_errors(tmp_path, [result("source", wrong=wrong)], ())
    (axes,) = laid_out["error_over_stream_4"].axes
    assert axes.get_xlabel() == "images (running mean of 50; band: one standard error)"
    (line,), (band,) = axes.lines, axes.collections
    position, error = np.asarray(line.get_xydata()).T
    corners = np.asarray(band.get_paths()[0].vertices)
    assert np.abs(np.diff(error)).max() <= 100 * 3 / 50 + 1e-9, "three images come and three go"
    for x, y in zip(position, error, strict=True):
        start = round(x - 25)
        part = np.array(wrong[start : start + 50], np.float64)
        assert y == pytest.approx(100 * part.mean())
        edges = corners[np.isclose(corners[:, 0], x), 1]
        assert edges.max() - edges.min() == pytest.approx(200 * part.std(ddof=1) / 50**0.5)


@pytest.mark.parametrize("images", [1, 2, 3, 7, 40, 199, 200, 1000, 15_000])
def test_windows_are_never_longer_than_the_stream_needs(images: int) -> None:
    curve = running_mean(np.arange(images, dtype=np.float64), 2, 50)
    assert curve.window <= max(2 * -(-images // 80), images // 4, 1)
    assert len(curve.position) == len(curve.value) == len(curve.error)
    np.testing.assert_allclose(curve.value, curve.position - 0.5)


def test_more_seeds_shrink_the_standard_error() -> None:
    single = running_mean(np.array([0.0, 1.0] * 40))
    np.testing.assert_allclose(mean_curve([single] * 4).error, single.error / 2)


def test_no_labels_overlap(tmp_path: Path, laid_out: dict[str, Figure]) -> None:
    names = ["source", *(f"adapter_{i}+lame:memory=64,when=correlated"[: 9 + 2 * i] for i in range(17))]
    results = study(names, ("continual",), ("iid", "dirichlet:0.1"), (1,), (0,), 30)
    figures = measure_all(results)
    draw_differences(tmp_path, summarize(figures))
    draw_errors(tmp_path, results, DOMAINS)
    draw_reliability(tmp_path, figures)
    for figure, labels in (
        (
            laid_out["differences"],
            [*laid_out["differences"].axes[0].get_yticklabels(), *laid_out["differences"].axes[0].texts],
        ),
        (laid_out["error_over_stream_1"], laid_out["error_over_stream_1"].legends[0].get_texts()),
        (laid_out["reliability"], [axes.title for axes in laid_out["reliability"].axes]),
    ):
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= 18
        is_separate = [a.count_overlaps(boxes[i + 1 :]) == 0 for i, a in enumerate(boxes)]
        assert all(is_separate), labels[is_separate.index(False)]
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(
    "results",
    [
        [result()],
        [result(wrong=[False], confidence=[1.0])],
        [result("bn", "clean"), result("bn", "clean", seed=1)],
        [result("bn", "mixed", "$x_1$"), result("bn$", "continual", "iid", 1, 5)],
        [result(wrong=[0] * 3), result("bn", wrong=[0] * 7)],
    ],
)
def test_small_results_are_drawn(tmp_path: Path, results: list[Result]) -> None:
    assert all(path.stat().st_size > 1000 for path in write_plots(tmp_path, results))


def test_up_to_fifty_strategies_look_different() -> None:
    styles = line_styles(["source", *(f"strategy{i}" for i in range(50))])
    assert len(set(styles.values())) == 51


def test_an_adapter_keeps_its_colour() -> None:
    styles = line_styles(["source", "adabn", "bn", "adabn+lame", "adabn:momentum=0.2"])
    assert len({styles[name].color for name in ("adabn", "adabn+lame", "adabn:momentum=0.2")}) == 1
    assert styles["bn"].color != styles["adabn"].color


def test_names_are_escaped_and_shortened() -> None:
    assert escape("a$b$") == r"a\$b\$"
    assert escape("x" * 60) == "x" * 47 + "…"


def test_missing_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="matplotlib") as caught:
        write_plots(tmp_path / "new", [result()])
    assert caught.value.hint == "pip install 'renorm[eval]'"
    assert not (tmp_path / "new").exists()


def test_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results"):
        write_plots(tmp_path, [])


def test_background_is_white_and_missing_cells_are_grey(tmp_path: Path) -> None:
    results = [result("source"), result("bn"), result("source", batch=16)]
    pixels = np.asarray(Image.open(draw_differences(tmp_path, summarize(measure_all(results)))).convert("RGB"))
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    assert colours[counts.argmax()].tolist() == [255, 255, 255]
    assert [round(255 * part) for part in to_rgb(MISSING)] in colours.tolist()


def test_unknown_drift_leaves_a_gap(tmp_path: Path, laid_out: dict[str, Figure]) -> None:
    run = result("bn", wrong=[0] * 40)
    half = np.where(np.arange(40) < 20, np.nan, run.drift).astype(np.float32)
    none = np.full(40, np.nan, np.float32)
    draw_drift(tmp_path, [replace(run, drift=half), replace(result(wrong=[0] * 40), drift=none)], ())
    first, second = (np.asarray(line.get_ydata()) for line in laid_out["drift_over_stream"].axes[0].lines)
    assert np.isnan(first[:5]).all()
    assert np.isfinite(first[-5:]).all()
    assert np.isnan(second).all()
