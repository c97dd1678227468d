"""Runs of one class against counting by hand."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.class_runs import class_runs, run_lengths
from tests.app.evaluation.made import result


@pytest.mark.parametrize(
    ("protocol", "label", "domain", "mean", "median"),
    [
        ("continual", [3, 3, 3, 1, 1, 3], [0] * 6, 2.0, 2.0),
        ("continual", [3, 3, 3, 3, 1, 3], [0] * 6, 2.0, 1.0),
        ("continual", [5] * 6, [0, 0, 1, 1, 2, 2], 6.0, 6.0),
        ("single", [5] * 6, [0, 0, 1, 1, 1, 1], 3.0, 3.0),
        ("clean", [0], [0], 1.0, 1.0),
    ],
)
def test_mean_and_median_run(protocol: str, label: list[int], domain: list[int], mean: float, median: float) -> None:
    runs = class_runs(result(protocol=protocol, wrong=[0] * len(label), label=label, domain=domain))
    assert runs == (mean, median)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_runs_are_those_of_a_count_and_cover_the_stream(labels: list[int]) -> None:
    lengths = [len(list(run)) for _, run in itertools.groupby(labels)]
    assert run_lengths(np.diff(np.array(labels)) != 0).tolist() == lengths
    runs = class_runs(result(wrong=[0] * len(labels), label=labels))
    assert runs.mean == pytest.approx(statistics.fmean(lengths))
    assert runs.median == statistics.median(lengths)
