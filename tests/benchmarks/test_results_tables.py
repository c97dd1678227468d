"""Tables of `make results`, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from results_long import Reach, reaches, read, table, write
from results_means import MEAN, over_protocols
from results_plan import SHIFTED
from results_readme import BEGIN, END, USES, put
from results_readme import table as readme_table

from adapters import STRATEGIES
from app.evaluation.measures import Place, measure_all, summarize
from app.evaluation.types import Result
from tests.app.evaluation.made import result


def protocols(strategy: str, wrong: tuple[int, ...], order: str = "iid", batch: int = 64) -> list[Result]:
    """One run of ten images for each shifted protocol, with so many wrong answers."""
    return [
        result(strategy, protocol, order, batch, wrong=[1] * missed + [0] * (10 - missed), state_bytes=8 * missed)
        for protocol, missed in zip(SHIFTED, wrong, strict=True)
    ]


def test_means_are_over_all_shifted_protocols_and_no_others() -> None:
    made = [*protocols("source", (4, 4, 4, 8)), *protocols("bn", (1, 2, 3, 4)), result("bn", "clean", batch=64)]
    made += protocols("bn", (1, 2, 3, 4), batch=1)[:3]
    made += [result("bn", "gradual", batch=64, wrong=[1] * 10)]
    found = {(one.strategy, one.place): one for one in over_protocols(summarize(measure_all(made)))}
    assert set(found) == {
        ("source", Place(MEAN, "iid", 64)),
        ("bn", Place(MEAN, "iid", 64)),
        ("bn", Place("clean", "iid", 64)),
    }
    one = found["bn", Place(MEAN, "iid", 64)]
    assert one.error == pytest.approx(25.0)
    assert one.difference == pytest.approx(25.0 - 50.0)
    assert one.state_bytes == 32
    assert found["bn", Place("clean", "iid", 64)].error == pytest.approx(25.0)


def test_every_strategy_has_a_row_and_what_is_not_known_a_dash() -> None:
    made = [*protocols("source", (4, 4, 4, 8)), *protocols("bn", (1, 2, 3, 4))]
    made += protocols("bn", (9, 9, 9, 9), "dirichlet:0.1", 1)
    made += [result(name, "clean", batch=64, wrong=[1] * n + [0] * 9) for name, n in (("source", 1), ("bn", 3))]
    lines = readme_table(measure_all(made)).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == list(USES)
    assert set(STRATEGIES) <= set(USES)
    rows = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[3:-1]] for line in lines[2:]}
    assert rows["source"] == ["50.0", "-", "-", "-", "+0.0", "-", "64"]
    assert rows["bn"] == ["**25.0**", "-", "-", "90.0", "+15.0", "-", "72"]
    assert rows["temperature"] == ["-"] * 7
    assert len({len(line.split("|")) for line in lines}) == 1


def test_a_table_is_put_between_its_markers() -> None:
    page = f"a\n{BEGIN}\nold\n\nolder\n{END}\nb\n"
    once = put(page, "| \\1 |\n")
    assert once == f"a\n{BEGIN}\n\n| \\1 |\n\n{END}\nb\n"
    assert put(once, "| \\1 |\n") == once
    assert put(f"{BEGIN}\n{END}\n", "x\n") == f"{BEGIN}\n\nx\n\n{END}\n"


@pytest.mark.parametrize("page", ["", BEGIN + "\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n" * 2])
def test_a_page_without_both_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        put(page, "x\n")


def test_errors_over_the_first_images() -> None:
    wrong = [1] * 500 + [0] * 1_500 + [1] * 8_000 + [0] * 2_500
    assert reaches([result("bn", wrong=wrong), result("source", wrong=wrong[:2_000])]) == [
        Reach("bn", "iid", 2_000, 25.0),
        Reach("bn", "iid", 10_000, 85.0),
        Reach("bn", "iid", 12_500, 68.0),
        Reach("source", "iid", 2_000, 25.0),
    ]


def test_ranks_of_the_long_stream(tmp_path: Path) -> None:
    errors = {"source": (50.0, 50.0), "bn": (20.0, 60.0), "adabn": (20.0, 30.0)}
    rows = [
        Reach(name, "iid", n, e) for name, both in errors.items() for n, e in zip((2_000, 9_000), both, strict=True)
    ]
    rows += [Reach("tema", "sorted", 2_000, 10.0)]
    write(tmp_path / "long.csv", rows)
    assert read(tmp_path / "long.csv") == rows
    assert table(rows, "iid").splitlines() == [
        "| error % (rank), iid | first 2,000 | first 9,000 |",
        "| --- | ---: | ---: |",
        "| `source` | 50.0 (3) | 50.0 (2) |",
        "| `bn` | **20.0 (1)** | 60.0 (3) |",
        "| `adabn` | **20.0 (1)** | **30.0 (1)** |",
        "| `tema` | - | - |",
    ]


def test_another_file_is_not_of_a_long_stream(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("strategy,error\n")
    with pytest.raises(ValueError, match="has the columns strategy, error: expected strategy, order"):
        read(tmp_path / "long.csv")
