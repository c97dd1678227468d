"""The last steps of every source: overrides, freezing, and a forward that must fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.errors import ModelError
from app.models.assemble import assemble, with_overrides
from app.models.hosted import Hosted, Preprocessing
from app.models.startup_check import try_network
from app.settings import Settings

IMAGENET = Preprocessing(224, 256, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Answering(nn.Module):
    """Answers with what it was given."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def assembled(network: nn.Module, classes: list[str] | None = None, **said: Any) -> Hosted:
    return assemble(
        network, Settings(**said), name="n", preprocessing=IMAGENET, classes=classes, architecture="a", card="c"
    )


def test_the_network_is_frozen_in_eval_mode_and_its_statistics_are_untouched() -> None:
    network = net()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    hosted = assembled(network, ["a", "b", "c"])
    assert not any(module.training for module in hosted.network.modules())
    assert not any(parameter.requires_grad for parameter in hosted.network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in hosted.network.state_dict().items())
    assert (hosted.name, hosted.architecture, hosted.card) == ("n", "a", "c")
    assert hosted.preprocessing == IMAGENET


def test_without_names_classes_are_numbered() -> None:
    assert assembled(net()).classes == ["class 0", "class 1", "class 2"]


def test_labels_of_the_user_win(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("x\ny\nz\n")
    assert assembled(net(), ["a", "b", "c"], labels=path).classes == ["x", "y", "z"]


def test_a_wrong_number_of_labels_tells_both_counts(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("x\ny\n")
    with pytest.raises(ModelError, match=r"labels\.txt has 2 class names, but the network has 3 outputs"):
        assembled(net(), labels=path)
    with pytest.raises(ModelError, match="has 1 class names, but the network has 3 outputs"):
        assembled(net(), ["a"])


def test_overrides_replace_what_they_name_and_keep_the_share_that_is_cut_out() -> None:
    changed = with_overrides(IMAGENET, Settings(size=112, mean=(0.1, 0.2, 0.3)))
    assert changed == Preprocessing(112, 128, "bicubic", (0.1, 0.2, 0.3), IMAGENET.std)
    assert with_overrides(IMAGENET, Settings(std=(1, 2, 3))).std == (1, 2, 3)
    assert with_overrides(IMAGENET, Settings()) == IMAGENET


def test_an_impossible_override_is_refused() -> None:
    with pytest.raises(ModelError, match="positive deviations") as caught:
        with_overrides(IMAGENET, Settings(std=(1, 0, 1)))
    assert "--std" in caught.value.hint


EIGHT = Preprocessing(8, 8, "bilinear", (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((torch.zeros(1, 3),), "tuple"),
        ({"logits": torch.zeros(1, 3)}, "dict"),
        (torch.zeros(3), r"\[3\]"),
        (torch.zeros(2, 3, 7, 7), r"\[2, 3, 7, 7\]"),
        (torch.zeros(1, 3), r"\[1, 3\]"),
        (torch.zeros(2, 0), r"\[2, 0\]"),
    ],
)
def test_an_answer_that_is_not_logits_is_refused(answer: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        try_network(Answering(answer), EIGHT)


def test_outputs_are_counted_on_the_network_as_it_is_hosted() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 7), nn.Softmax(1)).eval()
    assert try_network(network, EIGHT).classes == 7
    assert network(torch.zeros(1, 3, 8, 8)).max() < 0  # logits: probabilities would be taken for some a second time


def test_a_network_that_fails_is_refused_with_its_reason() -> None:
    with pytest.raises(ModelError, match=r"8 x 8 pixels: RuntimeError: .*expected input") as caught:
        try_network(nn.Conv2d(1, 4, 3), EIGHT)
    assert "--size" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm:resnet50", "timm:resnet50"),
        ("timm:hf-hub:lab/scanner net", "timm:hf-hub:lab-scanner-net"),
        ("nets.build", "nets.build"),
        ("../größe", "gr-e"),
        ("/", "model"),
    ],
)
def test_a_name_is_one_part_of_a_path_and_settings_choose_another(source: str, name: str) -> None:
    def assembled(**settings: str) -> Hosted:
        values = Settings.model_validate({"model": "python:nets:build", **settings})
        return assemble(net(), values, name=source, preprocessing=IMAGENET, classes=None, architecture="a")

    assert (assembled().name, assembled().source) == (name, "python:nets:build")
    assert (assembled(name="scanner").name, assembled(name="scanner").source) == ("scanner", "python:nets:build")
