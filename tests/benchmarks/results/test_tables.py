"""Tables of `make results`, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import STRATEGIES
from app.evaluation.metrics import measure_all
from app.evaluation.types import Result
from benchmarks.results.choice_table import table as table_of_choice
from benchmarks.results.long_stream import PrefixErrorRate, followed, prefix_error_rates, read, table, write
from benchmarks.results.plan import PUBLISHED_LAME
from benchmarks.results.published import SETTINGS, section_of
from benchmarks.results.readme_table import BEGIN, END, USES, put
from benchmarks.results.readme_table import table as table_of_readme
from tests.app.evaluation.made import result


def test_every_strategy_has_a_row_and_what_is_not_known_a_dash() -> None:
    def run(strategy: str, missed: int, order: str = "iid", batch: int = 64) -> Result:
        return result(strategy, "continual", order, batch, wrong=[1] * missed + [0] * (10 - missed), state_bytes=missed)

    made = [run("source", 5), run("bn", 2), run("bn", 9, "dirichlet:0.1", 1), result("bn", "mixed", wrong=[1] * 10)]
    made += [result(name, "clean", batch=64, wrong=[1] * n + [0] * 9) for name, n in (("source", 1), ("bn", 3))]
    for name, missed in (("source", 1), ("bn", 7)):
        made.append(result(name, "clean", "dirichlet:0.1", 1, wrong=[1] * missed + [0] * (10 - missed)))
    lines = table_of_readme(measure_all(made)).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == list(USES)
    missing = set(STRATEGIES) - set(USES)
    assert not missing, f"say what {sorted(missing)} is for in USES of benchmarks/results/readme_table.py"
    rows = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[3:-1]] for line in lines[2:]}
    assert rows["source"] == ["50.0", "-", "-", "-", "+0.0 / -", "- / +0.0", "5"]
    assert rows["bn"] == ["**20.0**", "-", "-", "90.0", "+15.0 / -", "- / +60.0", "9"]
    assert rows["temperature"] == ["-"] * 4 + ["- / -"] * 2 + ["-"]
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
    assert prefix_error_rates([result("bn", wrong=wrong), result("source", wrong=wrong[:2_000])]) == [
        PrefixErrorRate("bn", "iid", 2_000, 25.0),
        PrefixErrorRate("bn", "iid", 10_000, 85.0),
        PrefixErrorRate("bn", "iid", 12_500, 68.0),
        PrefixErrorRate("source", "iid", 2_000, 25.0),
    ]


def test_ranks_of_the_long_stream(tmp_path: Path) -> None:
    errors = {"source": (50.0, 50.0), "bn": (20.0, 60.0), "adabn": (20.0, 30.0)}
    rows = [
        PrefixErrorRate(name, "iid", n, e)
        for name, both in errors.items()
        for n, e in zip((2_000, 9_000), both, strict=True)
    ]
    rows += [PrefixErrorRate("tema", "sorted", 2_000, 10.0)]
    write(tmp_path / "long.csv", rows)
    assert read(tmp_path / "long.csv") == rows
    # A strategy that was not run on this stream has no line.
    assert table(rows, "iid").splitlines() == [
        "| error % (rank), iid | first 2,000 | first 9,000 |",
        "| --- | ---: | ---: |",
        "| `source` | 50.0 (3) | 50.0 (2) |",
        "| `bn` | **20.0 (1)** | 60.0 (3) |",
        "| `adabn` | **20.0 (1)** | **30.0 (1)** |",
    ]


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("strategy,error\n")
    with pytest.raises(ValueError, match="has the columns strategy, error: expected strategy, order"):
        read(tmp_path / "long.csv")


def test_long_streams_are_those_of_all_corruptions_one_after_another() -> None:
    made = [
        result("bn", "continual", "iid", 64),
        result("bn", "continual", "ptta", 64, 1),
        result("bn", "mixed", batch=64),
    ]
    assert [one.cell for one in followed([*made, result("bn", "continual", batch=1)])] == [made[0].cell]


def test_published_errors_stand_beside_those_of_the_same_setting() -> None:
    made = [
        result("source", "continual", "iid", 64, wrong=[1, 1, 1, 1, 0, 0, 0, 0]),
        result("bn", "continual", "iid", 64, wrong=[1, 0, 0, 0, 0, 0, 0, 0]),
        result("bn", "continual", "iid", 1, wrong=[1] * 8),
        result("source", "mixed", "dirichlet:0.1", 64),
    ]
    text = section_of(measure_all(made))
    assert "| one corruption after another, shuffled (WRN-28-10) | `bn` | 20.4 | 0.47 | 12.5 | 0.25 |" in text
    assert "| one corruption after another, shuffled (WRN-28-10) | `tent` | 20.0 | 0.46 | - | - |" in text
    # What is published without its frozen network can be divided by nothing.
    assert "| `unmix_tns` | 41.9 | - | - | - |" in text
    for setting in SETTINGS:
        assert f"- *{setting.title} ({setting.network})*: {setting.source}; there {setting.differs}." in text
        assert set(setting.errors) <= {"source", "bn", "tent", "rotta", "unmix_tns", PUBLISHED_LAME}


def test_a_value_is_better_only_where_it_is_nowhere_worse() -> None:
    def errors(strategy: str, *missed: int) -> list[Result]:
        places = [("continual", "iid", 1), ("continual", "iid", 64), ("clean", "iid", 1)]
        wrong = [[1] * n + [0] * (100 - n) for n in missed]
        return [result(strategy, *place, wrong=own) for place, own in zip(places, wrong, strict=True)]

    shown = table_of_choice(
        measure_all(
            [
                *errors("source", 60, 60, 8),
                *errors("adabn", 30, 30, 8),
                *errors("adabn:momentum=0.05", 29, 29, 8),
                *errors("adabn:momentum=0.2", 20, 31, 8),
                *errors("adabn:momentum=0.4", 20, 20, 9),
                *errors("adabn:momentum=0.025", 29, 30, 1),
            ]
        )
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    assert rows[0] == ["", "mean", "continual, iid, 1", "continual, iid, 64", "clean", "clearly better"]
    assert {row[0]: row[-1] for row in rows[2:]} == {
        "`source`": "(the default)",
        "`adabn`": "(the default)",
        "`adabn:momentum=0.05`": "yes",
        "`adabn:momentum=0.2`": "no",
        "`adabn:momentum=0.4`": "no",
        "`adabn:momentum=0.025`": "no",
    }
    assert rows[3] == ["`adabn`", "30.0", "30.0", "30.0", "+0.0", "(the default)"]
