"""Means of explanations: by strategy, over the states that have a figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.observability.explanation_metrics import explanation_metrics
from app.types import StreamExplanation
from tests.app.fakes import EXPLANATION

ALARMED = replace(EXPLANATION, trained=0.2, memory=0.8, averaged_images=3.0, change_alarm=True, is_corrected=True)
UNMIXED = replace(ALARMED, is_mixture=None)


def series(*explanations: tuple[str, StreamExplanation]) -> dict[tuple[str, ...], float]:
    samples = [sample for family in explanation_metrics(explanations) for sample in family.samples]
    return {(sample.name.removeprefix("renorm_"), *sample.labels.values()): sample.value for sample in samples}


def test_figures_are_means_over_the_states_of_a_strategy() -> None:
    found = series(("auto", EXPLANATION), ("auto", ALARMED), ("adabn", UNMIXED))
    assert found == pytest.approx(
        {
            ("explained_states", "auto"): 2,
            ("normalization_weight", "auto", "trained"): 0.3,
            ("normalization_weight", "auto", "memory"): 0.7,
            ("normalization_weight", "auto", "request"): 0.0,
            ("averaged_images", "auto"): 6.0,
            ("independent_images", "auto"): 1.0,
            ("corrected_streams_ratio", "auto"): 0.5,
            ("change_alarms_ratio", "auto"): 0.5,
            ("mixed_streams_ratio", "auto"): 0.0,
            ("explained_states", "adabn"): 1,
            ("normalization_weight", "adabn", "trained"): 0.2,
            ("normalization_weight", "adabn", "memory"): 0.8,
            ("normalization_weight", "adabn", "request"): 0.0,
            ("averaged_images", "adabn"): 3.0,
            ("independent_images", "adabn"): 1.0,
            ("corrected_streams_ratio", "adabn"): 1.0,
            ("change_alarms_ratio", "adabn"): 1.0,
        }
    )


def test_a_state_without_a_figure_does_not_count_and_a_figure_of_none_is_left_out() -> None:
    silent = replace(EXPLANATION, trained=None, memory=None, request=None, is_corrected=None, change_alarm=None)
    found = series(("auto", silent), ("auto", ALARMED), ("unmix_tns", silent))
    assert found["normalization_weight", "auto", "trained"] == 0.2
    assert found["change_alarms_ratio", "auto"] == 1.0
    assert not any(name == "normalization_weight" and labels[0] == "unmix_tns" for name, *labels in found)
    assert found["explained_states", "unmix_tns"] == 1


def test_without_streams_there_is_no_series() -> None:
    assert series() == {}
