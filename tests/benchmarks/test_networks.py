"""The networks of the studies: their size, and that the weights beside them are theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import benchmarks.networks
from benchmarks.networks import digits, vgg
from benchmarks.training.cifar10 import Split
from benchmarks.training.train_cifar10 import ARCHITECTURES, accuracy

FOLDER = Path(benchmarks.networks.__file__).parent
SAMPLE = FOLDER.parent / "sample"


@pytest.mark.parametrize(
    ("make", "file", "parameters", "side"),
    [(vgg, "cifar10-vgg", 288_746, 32), (digits, "mnist-digits", 24_346, 28)],
    ids=["vgg", "digits"],
)
def test_weights_fit_their_network_and_give_ten_scores(
    make: Callable[[], nn.Module], file: str, parameters: int, side: int
) -> None:
    network = make().eval()
    weights = FOLDER / f"{file}.safetensors"
    network.load_state_dict(load_file(weights))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert weights.stat().st_size < 1_250_000
    with torch.no_grad():
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 10)


def test_the_vgg_is_right_on_most_of_the_sample() -> None:
    network = vgg()
    network.load_state_dict(load_file(ARCHITECTURES["vgg"].weights))
    images, labels = (torch.from_numpy(np.load(SAMPLE / f"{name}.npy")) for name in ("clean", "labels"))
    assert accuracy(network, Split(images, labels)) > 85
