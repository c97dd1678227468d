"""The drift of a request: how far what it shows is from the training data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Request, UnMixTNS
from tests.nets import Head1d, Tiny, images, seeded


def test_drift_is_near_zero_on_training_data_and_grows_with_the_shift() -> None:
    network, batch = seeded(Tiny), images(64)
    # One pass in train mode with momentum 1 makes this batch the training data.
    network.bn.momentum = 1.0
    network.train()(batch)
    model = AdaptiveModel(network, "source")

    def drift(x: Tensor) -> float:
        return model.predict([Request(x)])[0].drift

    assert drift(batch) < 1e-4
    assert drift(images(64, seed=1)) < 0.01
    assert 0.05 < drift(batch + 0.5) < drift(batch + 2)
    assert drift(batch * 0.2) > 0.1


def test_drift_is_the_requests_own_and_ignores_strategy_and_neighbours() -> None:
    model = AdaptiveModel(seeded(Head1d), "source")
    glued = model.predict([Request(images(2)), Request(5 + images(1)), Request(images(3), "c", UnMixTNS())])
    separate = [model.predict([Request(x)])[0] for x in (images(2), 5 + images(1))]
    for ours, theirs in zip(glued, separate, strict=False):
        assert ours.drift == pytest.approx(theirs.drift, rel=1e-4)
    assert glued[1].drift > 4 * glued[0].drift


def test_a_single_value_per_channel_shows_no_drift() -> None:
    model = AdaptiveModel(seeded(lambda: nn.BatchNorm1d(4)), "source")
    assert model.predict([Request(100 * torch.ones(1, 4))])[0].drift == 0.0
    assert model.predict([Request(100 * torch.ones(2, 4))])[0].drift > 100
