"""The held-out corruptions: what they do to pixels, and that they show none of the images of the tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from app.evaluation.datasets.data import open_data
from app.evaluation.datasets.domains import PUBLISHED
from benchmarks.results import held_out
from benchmarks.training.cifar10 import SHEETS

IMAGES = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", list(held_out.CORRUPTIONS))
def test_corruptions_change_images_and_are_deterministic(name: str) -> None:
    once = held_out.corrupted(name, IMAGES)
    assert once.shape == IMAGES.shape
    assert once.dtype == torch.uint8
    assert torch.equal(once, held_out.corrupted(name, IMAGES))
    assert not torch.equal(once, IMAGES)
    assert name not in PUBLISHED


def test_speckle_noise_is_stronger_where_pixels_are_brighter() -> None:
    grey = torch.full((64, 32, 32, 3), 100, dtype=torch.uint8)
    for value in (40, 100):
        made = held_out.corrupted("speckle_noise", torch.full_like(grey, value)).float()
        assert float(made.std()) == pytest.approx(0.2 * value, rel=0.02)
        assert float(made.mean()) == pytest.approx(value - 0.5, abs=0.3)


def test_blur_is_a_gaussian_of_one_pixel() -> None:
    point = torch.zeros(1, 17, 17, 3, dtype=torch.uint8)
    point[0, 8, 8] = 255
    made = held_out.corrupted("gaussian_blur", point)[0, :, :, 0].double()
    offsets = torch.arange(-8, 9).double()
    kernel = torch.exp(-(offsets**2) / 2)
    kernel = torch.where(offsets.abs() <= 4, kernel, 0.0)
    expected = 255 * torch.outer(kernel, kernel) / kernel.sum() ** 2
    assert float((made - expected).abs().max()) <= 1.0
    flat = torch.full((1, 9, 9, 3), 77, dtype=torch.uint8)
    assert int((held_out.corrupted("gaussian_blur", flat).int() - 77).abs().max()) <= 1, "edges go on as they end"


def test_saturation_is_that_of_hsv() -> None:
    colour = rgb_to_hsv(IMAGES.numpy() / 255.0)
    colour[..., 1] = np.clip(2.5 * colour[..., 1] + 0.2, 0, 1)
    made = held_out.corrupted("saturate", IMAGES).numpy().astype(int)
    assert np.abs(made - (255 * hsv_to_rgb(colour)).astype(int)).max() <= 1
    grey = held_out.corrupted("saturate", torch.full((1, 2, 2, 3), 200, dtype=torch.uint8))
    assert grey[0, 0, 0].tolist() == [200, 160, 160]


def test_spatter_covers_some_of_every_image_with_brown_and_leaves_the_rest() -> None:
    made = held_out.corrupted("spatter", IMAGES).int()
    same = (made - IMAGES.int()).abs().amax(-1) <= 1
    brown = (made - torch.tensor([63, 42, 20])).abs().amax(-1) <= 60
    assert 0.3 < float(same.float().mean()) < 0.95
    assert float(brown[~same].float().mean()) > 0.9
    assert bool((~same).any((1, 2)).all())


def test_the_folder_holds_images_that_no_table_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "FIRST", 30)
    monkeypatch.setattr(held_out, "COUNT", 10)
    for name in (*SHEETS, "test_batch.png"):
        Image.fromarray(IMAGES.numpy().reshape(40, -1, 3)).save(tmp_path / name)
    for name in ("train_lables.json", "test_lables.json"):
        (tmp_path / name).write_text(json.dumps([i % 10 for i in range(200 if "train" in name else 40)]))
    assert held_out.main(["--cifar", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    data = open_data(tmp_path / "out")
    assert data.corruptions == sorted(held_out.CORRUPTIONS)
    assert data.clean is not None
    taken = data.clean.take(np.arange(10))
    assert isinstance(taken, torch.Tensor)
    assert torch.equal(taken, IMAGES[30:])
    assert data.clean.labels.tolist() == list(range(10))


def test_missing_images_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert held_out.main(["--cifar", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no CIFAR-10 in" in capsys.readouterr().err


def test_held_out_images_follow_those_of_the_tables() -> None:
    assert (held_out.FIRST, held_out.COUNT) == (1000, 1000)
