"""The corruptions of MNIST, and the folder that `renorm evaluate` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from app.evaluation.datasets.data import open_data
from benchmarks.auto import corrupted_mnist
from benchmarks.auto.corrupted_mnist import CORRUPTIONS, corrupt
from tests.benchmarks.idx_files import write_mnist

GREY = torch.randint(0, 256, (30, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
IMAGES = GREY.repeat(1, 1, 1, 3)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_corruptions_change_images_keep_them_grey_and_are_deterministic(name: str) -> None:
    once = corrupt(name, IMAGES)
    assert once.shape == IMAGES.shape
    assert once.dtype == torch.uint8
    assert torch.equal(once, corrupt(name, IMAGES))
    assert not torch.equal(once, IMAGES)
    assert torch.equal(once[..., 0], once[..., 1])
    assert torch.equal(once[..., 0], once[..., 2])


def test_an_image_goes_further_from_the_clean_one_with_each_severity() -> None:
    for name in CORRUPTIONS:
        moved = [corrupt(name, IMAGES, severity).float().sub(IMAGES).abs().mean().item() for severity in range(1, 6)]
        assert moved == sorted(moved)
        assert moved[0] < moved[4] / 2
        assert torch.equal(corrupt(name, IMAGES, 5), corrupt(name, IMAGES))


def test_noise_has_its_deviation_and_impulses_their_share() -> None:
    grey = torch.full((64, 28, 28, 3), 128, dtype=torch.uint8)
    assert float(corrupt("gaussian_noise", grey).float().std()) == pytest.approx(0.25 * 255, rel=0.05)
    impulses = corrupt("impulse_noise", grey)[..., 0]
    for value in (0, 255):
        assert float((impulses == value).float().mean()) == pytest.approx(1 / 16, abs=0.005)


def test_brightness_contrast_and_blocks_are_what_they_say() -> None:
    flat = torch.full((1, 28, 28, 3), 100, dtype=torch.uint8)
    assert int((corrupt("brightness", flat).int() - 163).abs().max()) <= 1
    half = flat.clone()
    half[:, :14] = 200
    assert sorted(set(corrupt("contrast", half).flatten().tolist())) == pytest.approx([135, 165], abs=1)
    blocks = corrupt("pixelate", IMAGES)[..., 0].view(30, 7, 4, 7, 4)
    assert torch.equal(blocks, blocks[:, :, :1, :, :1].expand_as(blocks))


def test_occlusion_covers_one_square_and_leaves_the_rest() -> None:
    made = corrupt("occlusion", torch.zeros(30, 28, 28, 3, dtype=torch.uint8))[..., 0]
    covered = made > 0
    assert covered.sum((1, 2)).tolist() == [144] * 30
    assert not bool(covered[:, :4].any()), "the border is left"
    assert len({tuple(image.nonzero()[0].tolist()) for image in covered}) > 10


def test_the_folder_is_one_that_the_evaluation_reads(tmp_path: Path) -> None:
    written = write_mnist(tmp_path, training=4, test=20)
    arguments = ["--mnist", str(tmp_path), "--out", str(tmp_path / "out")]
    assert corrupted_mnist.main(arguments) == 0
    data = open_data(tmp_path / "out")
    assert sorted(data.corruptions) == sorted(CORRUPTIONS)
    assert data.has_all_severities
    assert data.clean is not None
    taken = data.clean.take(np.arange(20))
    assert isinstance(taken, torch.Tensor)
    assert np.array_equal(taken[..., 0].numpy(), written["t10k"])


def test_missing_images_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert corrupted_mnist.main(["--mnist", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no train-images-idx3-ubyte" in capsys.readouterr().err
