"""Baselines in files, and what they make of drift on real images."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from adapters import AdaptiveModel, Baseline, Request
from app.baselines import load_baseline, save_baseline
from app.cli import cli
from app.errors import ModelError
from app.models import load
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.models.resnet20 import ResNet20
from app.settings import Settings

SAMPLE = Path(__file__).parents[2] / "benchmarks" / "sample"
CLEAN: NDArray[np.uint8] = np.load(SAMPLE / "clean.npy")
STREAMS, LENGTH = 24, 32


def night(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A third of the light, and the noise of a sensor that makes the best of it."""
    noise = np.random.default_rng(0).normal(0, 14, pixels.shape)
    return (pixels * 0.35 + noise).clip(0, 255).astype(np.uint8)


def blur(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(1.5))) for one in pixels])


DOMAINS: dict[str, Callable[[], NDArray[np.uint8]]] = {
    "clean": lambda: CLEAN,
    "fog": lambda: np.load(SAMPLE / "fog.npy"),
    "noise": lambda: np.load(SAMPLE / "gaussian_noise.npy"),
    "night": lambda: night(CLEAN),
    "blur": lambda: blur(CLEAN),
}


@pytest.fixture(scope="module")
def hosted() -> Hosted:
    return load(Settings())


class Beginning(nn.Module):
    """The bundled network up to its first site, which is all that drift reads."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        assert isinstance(whole, ResNet20)
        self.stem, self.bn, self.head = whole.stem, whole.bn, nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.bn(self.stem(x)).mean((2, 3)))
        return logits


@cache
def readings(domain: str, size: int, name: str = "adabn", *, whole: bool = False) -> Tensor:
    """The drift of `STREAMS` streams after `LENGTH` images each, drawn at random, ``size`` in a request."""
    hosted, pixels = load(Settings()), DOMAINS[domain]()
    prepare, network = Pixels(hosted.preprocessing), hosted.network if whole else Beginning(hosted.network)
    model = AdaptiveModel(network, name, prepare=prepare, baseline=hosted.baseline)
    draws = np.random.default_rng(1)
    streams = [torch.from_numpy(pixels[draws.permutation(len(pixels))[:LENGTH]]) for _ in range(STREAMS)]
    last: list[float] = []
    for first in range(0, LENGTH, size):
        requests = [Request(one[first : first + size], str(number)) for number, one in enumerate(streams)]
        last = [answer.drift for answer in model.predict(requests)]
    return torch.tensor(last)


def auc(clean: Tensor, shifted: Tensor) -> float:
    """How probable it is that a shifted stream shows more than a clean one."""
    pairs = shifted[:, None] - clean
    return float((pairs > 0).float().mean() + 0.5 * (pairs == 0).float().mean())


@pytest.mark.parametrize("shift", [name for name in DOMAINS if name != "clean"])
def test_single_images_of_a_shifted_camera_are_told_from_clean_ones(shift: str) -> None:
    clean, shifted = readings("clean", 1), readings(shift, 1)
    assert auc(clean, shifted) >= 0.99
    assert float(clean.median()) < 0.15


def test_the_rest_of_the_network_does_not_change_drift() -> None:
    torch.testing.assert_close(readings("fog", 8), readings("fog", 8, whole=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", ["fog", "night"])
@pytest.mark.parametrize("name", ["adabn", "unmix_tns"])
def test_drift_means_the_same_at_every_size_of_request(shift: str, name: str) -> None:
    means = [float(readings(shift, size, name).mean()) for size in (1, 8, 32)]
    assert max(means) < 1.01 * min(means)


def test_the_bundled_baseline_is_of_its_training_images(hosted: Hosted) -> None:
    """The sample of test images has about the same moments."""
    assert hosted.baseline is not None
    model = AdaptiveModel(hosted.network, prepare=Pixels(hosted.preprocessing))
    moments = model.moments(torch.from_numpy(CLEAN))
    apart = (moments.mean(0) - hosted.baseline.mean) / hosted.baseline.spread
    assert float(apart.abs().max()) < 0.3
    assert 0.8 < float((moments.std(0) / hosted.baseline.spread).mean()) < 1.2


def test_a_baseline_comes_back_from_its_file(tmp_path: Path) -> None:
    baseline = Baseline(torch.tensor([0.5, 1.5]), torch.tensor([0.1, 0.2]))
    save_baseline(baseline, tmp_path / "b.safetensors", "net", 100)
    assert [part.tolist() for part in load_baseline(tmp_path / "b.safetensors")] == [part.tolist() for part in baseline]


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (None, "cannot be read"),
        ({"weight": torch.ones(2)}, "is not a baseline: it contains weight"),
        ({"mean": torch.ones(2), "spread": torch.ones(3)}, "must be finite vectors of one length"),
        ({"mean": torch.tensor([float("nan")]), "spread": torch.ones(1)}, "must be finite vectors of one length"),
        ({"mean": torch.ones(1), "spread": torch.zeros(1)}, "must be positive"),
    ],
    ids=["missing", "weights", "lengths", "nan", "zero"],
)
def test_invalid_baseline_file_is_refused(tensors: dict[str, Tensor] | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    if tensors is not None:
        save_file(tensors, path)
    with pytest.raises(ModelError, match=says) as refused:
        load_baseline(path)
    assert "renorm calibrate" in refused.value.hint


def test_a_baseline_of_another_network_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_baseline(Baseline(torch.zeros(6), torch.ones(6)), path, "other", 100)
    result = CliRunner().invoke(cli, ["describe", "--baseline", str(path)])
    assert result.exit_code == 1
    assert "the baseline has 3 channels" in result.stderr
    assert "has 16: measure it again" in result.stderr


def test_calibrate_measures_a_folder_and_a_file_alike(tmp_path: Path) -> None:
    folder = tmp_path / "clean" / "below"
    folder.mkdir(parents=True)
    for number, pixels in enumerate(CLEAN[:40]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    np.save(tmp_path / "clean.npy", CLEAN[:40])
    found = []
    for number, source in enumerate((tmp_path / "clean", tmp_path / "clean.npy")):
        out = tmp_path / f"{number}.safetensors"
        options = ["--images", str(source), "--out", str(out), "--batch-size", "16"]
        result = CliRunner().invoke(cli, ["calibrate", *options])
        assert result.exit_code == 0, result.output
        assert "Measured 40 images on cifar10-resnet20" in result.stdout
        found.append(load_baseline(out))
    assert torch.allclose(found[0].mean, found[1].mean, atol=1e-5)
    assert torch.allclose(found[0].spread, found[1].spread, atol=1e-5)
    described = CliRunner().invoke(cli, ["describe", "--json", "--baseline", str(tmp_path / "0.safetensors")])
    assert json.loads(described.stdout)["drift_baseline"] == "measured"


@pytest.mark.parametrize("case", ["few", "missing", "damaged"])
def test_calibrate_refuses_unusable_images(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    if case != "missing":
        folder.mkdir()
        for number in range(31 if case == "few" else 40):
            Image.fromarray(CLEAN[number]).save(folder / f"{number}.png")
    if case == "damaged":
        (folder / "7.png").write_bytes(b"no image")
    out = tmp_path / "out.safetensors"
    result = CliRunner().invoke(cli, ["calibrate", "--images", str(folder), "--out", str(out)])
    assert result.exit_code in (1, 2)
    assert {"few": "at least 32 are needed", "missing": "is not a folder", "damaged": "7.png"}[case] in result.stderr
    assert not out.exists()


def test_a_network_of_ones_own_is_told_against_its_trained_statistics() -> None:
    result = CliRunner().invoke(cli, ["describe", "--json", "--model", "python:tests.nets:Tiny", "--size", "16"])
    assert json.loads(result.stdout)["drift_baseline"] == "assumed"
