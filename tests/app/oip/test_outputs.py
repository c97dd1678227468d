from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from app.errors import FieldError
from app.oip.outputs import OUTPUTS, OutputRequest, classes_to_rank, read_outputs, response_parameters, to_tensors
from app.types import Prediction, Timing

LABELS = ["ant", "b:e", "kuh ä"]
PREDICTION = Prediction(
    probabilities=torch.tensor([[0.25, 0.125, 0.625], [0.5, 0.375, 0.125]]),
    classes=[[2, 0], [0, 1]],
    shares=[[0.625, 0.25], [0.5, 0.375]],
    entropy=0.75,
    strategy="adabn",
    params={},
    step=4,
    updated=True,
    drift=0.5,
    adaptation=0.25,
    timing=Timing(1, 1, 1, 3),
)


def test_all_outputs_in_their_order() -> None:
    wanted = read_outputs([])
    assert [one.name for one in wanted] == list(OUTPUTS)
    tensors = to_tensors(PREDICTION, LABELS, wanted)
    assert {tensor.name: tensor.datatype for tensor in tensors} == OUTPUTS
    probabilities, label, index = (tensor.values for tensor in tensors)
    assert probabilities.tolist() == PREDICTION.probabilities.tolist()
    assert label.tolist() == ["kuh ä".encode(), b"ant"]
    assert index.tolist() == [2, 0]
    assert [values.shape for values in (probabilities, label, index)] == [(2, 3), (2,), (2,)]


def test_outputs_as_they_are_asked_for() -> None:
    wanted = read_outputs([("index", {"binary_data": False}), ("probabilities", {"classification": 2})])
    assert wanted == [OutputRequest("index", 0, False), OutputRequest("probabilities", 2, None)]
    assert classes_to_rank(wanted) == 2
    index, classes = to_tensors(PREDICTION, LABELS, wanted)
    assert index.name == "index"
    assert (classes.name, classes.datatype) == ("probabilities", "BYTES")
    assert classes.values.tolist() == [
        ["0.625000:2:kuh ä".encode(), b"0.250000:0:ant"],
        [b"0.500000:0:ant", b"0.375000:1:b:e"],
    ]


def test_no_more_classes_than_there_are() -> None:
    (classes,) = to_tensors(PREDICTION, LABELS, [OutputRequest("probabilities", 1)])
    assert classes.values.shape == (2, 1)
    (classes,) = to_tensors(PREDICTION, LABELS, [OutputRequest("probabilities", 99)])
    assert classes.values.shape == (2, 2)
    assert classes_to_rank([OutputRequest("label")]) == 1


def test_classification_of_none_is_probabilities() -> None:
    assert read_outputs([("probabilities", {"classification": 0})]) == [OutputRequest("probabilities")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([("logits", {})], "the outputs are probabilities, label, index"),
        ([(None, {})], "unknown output 'None'"),
        ([("label", {}), ("label", {})], "appears twice"),
        ([("label", {"binary_data": 1})], "true or false"),
        ([("label", {"classification": 2})], "no classes to rank"),
        ([("probabilities", {"classification": -1})], "non-negative integer"),
        ([("probabilities", {"classification": True})], "non-negative integer"),
        ([("probabilities", {"classification": "2"})], "non-negative integer"),
    ],
)
def test_refused(given: list[tuple[Any, dict[str, Any]]], says: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_outputs(given)
    assert says in f"{caught.value.message}; {caught.value.hint}"
    assert caught.value.location.startswith("outputs[")


def test_outputs_describe_the_stream() -> None:
    said = response_parameters(PREDICTION, "camera-7")
    assert said == {
        "renorm_stream": "camera-7",
        "renorm_strategy": "adabn",
        "renorm_step": 4,
        "renorm_updated": True,
        "renorm_outliers": 0,
        "renorm_weight": 1.0,
        "renorm_state_origin": "live",
        "renorm_entropy": 0.75,
        "renorm_drift": 0.5,
        "renorm_adaptation": 0.25,
    }
    assert "renorm_drift" not in response_parameters(replace(PREDICTION, drift=math.nan), "s")
