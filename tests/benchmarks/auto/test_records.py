"""Published rows of the study of `auto` that were not measured again stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.evaluation.metrics import Place, measure_all
from app.evaluation.report.rows import read_csv, write_rows
from app.evaluation.types import Result
from benchmarks.auto.corruptions import CorruptionHarm
from benchmarks.auto.plan import AUTO, IMAGES, SUBJECTS
from benchmarks.auto.records import merge_harm, merge_rows
from tests.app.evaluation.made import result

SUBJECT = SUBJECTS[0]


def run(strategy: str, order: str, missed: int) -> Result:
    return result(strategy, "single", order, 16, wrong=[1] * missed + [0] * (100 - missed))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Rows of two cells of the plan, and of one that the plan no longer has."""
    runs = [run("source", "iid", 50), run(AUTO, "iid", 20), run("auto:alarm=7", "iid", 99)]
    write_rows(tmp_path / "auto.csv", measure_all(runs))
    return tmp_path / "auto.csv"


def test_rows_that_were_not_measured_again_stay_in_the_order_of_the_plan(published: Path) -> None:
    measured = measure_all([run(AUTO, "iid", 30), run("source", "sorted", 40)])
    merged = merge_rows(SUBJECT, measured, published)
    assert [(figures.cell.strategy, figures.cell.order, figures.error) for figures in merged] == [
        ("source", "iid", 50.0),
        ("source", "sorted", 40.0),
        (AUTO, "iid", 30.0),
    ]
    write_rows(published, merged)
    assert [figures.cell for figures in read_csv(published)] == [figures.cell for figures in merged]


def test_a_trial_and_a_first_study_have_the_measured_rows_only(published: Path, tmp_path: Path) -> None:
    measured = measure_all([run(AUTO, "iid", 30)])
    assert merge_rows(SUBJECT.reduced(IMAGES - 1), measured, published) == measured
    assert merge_rows(SUBJECT, measured, tmp_path / "none.csv") == measured


def test_harm_is_that_of_the_rows_that_are_shown() -> None:
    here, gone = Place("single", "iid", 16), Place("single", "ptta", 16)
    earlier = CorruptionHarm(AUTO, here, 15, 3, "fog", 7.0)
    of_source = CorruptionHarm("adabn", here, 15, 1, "fog", 2.0)
    fresh = CorruptionHarm(AUTO, here, 15, 2, "snow", 5.0)
    unplanned = CorruptionHarm(AUTO, gone, 15, 9, "snow", 9.0)
    figures = measure_all([run("adabn", "iid", 30), run(AUTO, "iid", 30)])
    assert merge_harm(figures, [fresh], [earlier, of_source, unplanned]) == [of_source, fresh]
