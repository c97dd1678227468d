"""Models of timm: names, weights, classes, preprocessing, and a timm that is not there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from app.errors import ModelError
from app.images import ImageLimits, cut_pixels
from app.models import load
from app.models.hosted import Hosted
from app.models.timm_source import _preprocessing
from app.settings import Settings


def hosted(name: str, **said: Any) -> Hosted:
    return load(Settings(model=f"timm:{name}", **said))


def refused(name: str, **said: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        hosted(name, **said)
    return caught.value


def saved(path: Path, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = importlib.import_module("timm").create_model("resnet10t", **options).state_dict()
    torch.save(state, path)
    return state


def test_an_imagenet_model_brings_its_classes_and_preprocessing(tmp_path: Path) -> None:
    state = saved(tmp_path / "w.pt")
    found = hosted("resnet10t.c3_in1k", weights=tmp_path / "w.pt", size=64)
    assert all(torch.equal(value, state[key]) for key, value in found.network.state_dict().items())
    assert found.name == "timm:resnet10t.c3_in1k"
    assert found.architecture == "resnet10t"
    assert len(found.classes) == 1000
    assert found.classes[:2] == ["tench, Tinca tinca", "goldfish, Carassius auratus"]
    assert (found.class_ids[:2], len(found.class_ids)) == (("n01440764", "n01443537"), 1000)
    config = importlib.import_module("timm").data.resolve_model_data_config(found.network)
    original = config["input_size"][-1]
    assert found.preprocessing.size == 64
    assert found.preprocessing.resize == 64 * int(original / config["crop_pct"]) // original
    assert found.preprocessing.interpolation == config["interpolation"]
    assert (found.preprocessing.mean, found.preprocessing.std) == (config["mean"], config["std"])


def test_labels_size_the_head_of_fine_tuned_weights(tmp_path: Path) -> None:
    saved(tmp_path / "w.pt", num_classes=3)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    found = hosted("resnet10t", weights=tmp_path / "w.pt", labels=tmp_path / "labels.txt", size=64)
    assert found.classes == ["a", "b", "c"]
    assert "1000" in refused("resnet10t", weights=tmp_path / "w.pt").message


def test_labels_and_descriptions_of_the_configuration_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = importlib.import_module("timm")
    create = timm.create_model
    told = {"label_names": ["n1", "n2"], "label_descriptions": {"n1": "one"}}

    def created(name: str, **options: Any) -> Any:
        return create(name, pretrained_cfg_overlay=told, **{**options, "pretrained": False, "num_classes": 2})

    monkeypatch.setattr(timm, "create_model", created)
    assert hosted("resnet10t", size=64).classes == ["one", "n2"]


def test_pretrained_weights_are_asked_for_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = importlib.import_module("timm")
    create = timm.create_model
    asked = []

    def created(name: str, pretrained: bool, num_classes: int | None) -> Any:
        asked.append((name, pretrained, num_classes))
        return create(name)

    monkeypatch.setattr(timm, "create_model", created)
    found = hosted("resnet10t.c3_in1k", size=64)
    assert asked == [("resnet10t.c3_in1k", True, None)]
    assert "resnet10t.c3_in1k of timm" in found.card
    assert "license: apache-2.0" in found.card


@pytest.mark.parametrize(("name", "close"), [("resnet10tt", "resnet10t"), ("resnet50.a1_in2k", "resnet50.a1_in1k")])
def test_an_unknown_name_suggests_close_ones(name: str, close: str) -> None:
    error = refused(name)
    assert f"no model '{name}'" in error.message
    assert close in error.hint


def test_a_name_close_to_nothing_tells_where_to_look() -> None:
    assert "timm.list_models()" in refused("0000").hint


def test_weights_that_cannot_be_downloaded_point_to_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(importlib.import_module("timm"), "create_model", offline)
    error = refused("resnet10t")
    assert "ConnectionError: name resolution failed" in error.message
    assert "--weights FILE" in error.hint


def test_a_model_without_classifier_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = importlib.import_module("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **_: create(name, num_classes=0))
    assert "no classifier" in refused("resnet10t").message


@pytest.mark.parametrize("missing", ["timm", "torchvision"])
def test_a_package_that_is_not_installed_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text(f"raise ModuleNotFoundError('absent', name='{missing}')\n")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    error = refused("resnet10t")
    assert f"'{missing}', which is not installed" in error.message
    assert "pip install 'renorm[timm]'" in error.hint


def test_mismatched_torchvision_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    error = refused("resnet10t")
    assert "torchvision::nms" in error.message
    assert f"built for torch {torch.__version__}" in error.hint


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
def test_preprocessing_equals_timms(crop: str) -> None:
    timm = importlib.import_module("timm")
    network = timm.create_model("resnet10t", pretrained_cfg_overlay={"crop_mode": crop, "crop_pct": 0.9})
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False, normalize=False)
    how = _preprocessing(timm, network)
    rows, columns = np.mgrid[:480, :640]
    image = np.stack([rows // 2, columns // 3, (rows + columns) // 5], 2).astype(np.uint8)
    expected = transform(Image.fromarray(image)).permute(1, 2, 0).numpy().astype(int)
    assert how.crop == crop
    assert np.abs(cut_pixels(image, how, ImageLimits(1, 10**6)) - expected).max() <= 2
