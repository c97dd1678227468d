"""What travels arrives as it was."""

from __future__ import annotations

import dataclasses
import pickle

import torch

from app.serving.core_contract import CoreCall
from app.serving.processes.wire import pack_call, pack_prediction, unpack_call, unpack_prediction
from app.types import Call, Prediction, Timing
from tests.app.fakes import EXPLANATION


def test_a_call_arrives_without_its_images() -> None:
    options = {"stream": "s", "strategy": "bn", "params": {"a": 1}, "update": False, "top_k": 3, "start": True}
    call = Call([b"image"], **options, end=True, request_id="one", timeout_s=2.5, explain=True, client="c")  # type: ignore[arg-type]
    arrived = unpack_call(pickle.loads(pickle.dumps(pack_call(CoreCall(call, 1, b"print", 4.5)))))  # noqa: S301
    assert (arrived.count, arrived.content, arrived.arrived) == (1, b"print", 4.5)
    assert arrived.call.images == []
    for field in dataclasses.fields(Call):
        if field.name != "images":
            assert getattr(arrived.call, field.name) == getattr(call, field.name), field.name


def test_a_prediction_arrives_whole() -> None:
    prediction = Prediction(
        probabilities=torch.rand(2, 5),
        classes=[[1, 2], [3, 4]],
        shares=[[0.5, 0.1], [0.4, 0.2]],
        entropy=0.3,
        strategy="auto",
        params={"x": 1.5},
        step=7,
        updated=True,
        drift=float("inf"),
        adaptation=0.5,
        timing=Timing(1.0, 2.0, 3.0, 6.0),
        outliers=1,
        weight=0.5,
        state_origin="lost",
        explanation=EXPLANATION,
        commit_ms=0.25,
    )
    arrived = unpack_prediction(pickle.loads(pickle.dumps(pack_prediction(prediction))))  # noqa: S301
    for field in dataclasses.fields(Prediction):
        mine, other = getattr(prediction, field.name), getattr(arrived, field.name)
        assert torch.equal(mine, other) if field.name == "probabilities" else mine == other, field.name
