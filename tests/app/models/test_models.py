"""The names of models, and the one inside the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.errors import ModelError
from app.models import BUNDLED, SOURCES, load
from app.models.resnet20 import ResNet20
from app.settings import Settings

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize("name", ["resnet50", "", "hub:resnet50", "cifar10-resnet20:x", ":"])
def test_an_unknown_name_lists_what_exists(name: str) -> None:
    with pytest.raises(ModelError, match=f"unknown model '{name}'") as caught:
        load(Settings(model=name))
    for known in (*BUNDLED, *(f"{prefix}:" for prefix in SOURCES)):
        assert known in caught.value.hint


def test_the_bundled_model_is_the_default_and_complete() -> None:
    hosted = load(Settings())
    assert hosted.name == "cifar10-resnet20"
    assert hosted.classes == CIFAR10
    assert (hosted.preprocessing.size, hosted.preprocessing.resize) == (32, 32)
    assert hosted.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert hosted.preprocessing.std == (0.2470, 0.2435, 0.2616)
    assert sum(parameter.numel() for parameter in hosted.network.parameters()) == 269_722
    assert "CIFAR-10" in hosted.card
    # Trained statistics are far from where BatchNorm starts.
    assert float(hosted.network.get_buffer("bn.running_mean").abs().max()) > 0.01


def test_the_bundled_network_takes_weights_of_the_users_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = ResNet20().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    hosted = load(Settings(weights=tmp_path / "w.safetensors"))
    assert all(torch.equal(value, state[key]) for key, value in hosted.network.state_dict().items())
    assert hosted.card == ""


def test_a_package_without_its_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.models.bundled.resources.files", lambda package: tmp_path)
    with pytest.raises(ModelError, match="the weights of cifar10-resnet20 are missing") as caught:
        load(Settings())
    assert "--weights" in caught.value.hint
