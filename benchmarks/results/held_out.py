"""The four corruptions that are kept for choosing hyperparameters, made of images that no table shows.

    python -m benchmarks.results.held_out --cifar path/to/cifar10 --out results/held-out

writes a folder laid out as CIFAR-10-C: 1,000 test images after the first 1,000, which `make results` shows, with
speckle noise, Gaussian blur, spatter and saturation at severity 5, and as they are. The parameters are those of
CIFAR-10-C (Hendrycks and Dietterich 2019); all chance comes from a fixed seed.
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

from benchmarks.training.cifar10 import load

FIRST, COUNT = 1_000, 1_000
"""Of the test images: those before are in the tables."""


def speckle_noise(images: Tensor, random: torch.Generator) -> Tensor:
    """Noise of a deviation of 0.2 times the pixel."""
    return images + images * 0.2 * torch.randn(images.shape, generator=random)


def gaussian_blur(images: Tensor, _: torch.Generator) -> Tensor:
    """Blur with a deviation of one pixel."""
    return blurred(images, 1.0)


def spatter(images: Tensor, random: torch.Generator) -> Tensor:
    """Mud: where blurred noise (mean 0.65, deviation 0.1, blur 0.5) is above 0.68 for long enough, brown covers it."""
    noise = 0.65 + 0.1 * torch.randn((len(images), 1, *images.shape[2:]), generator=random)
    mud = blurred((blurred(noise, 0.5) > 0.68).float(), 0.6)
    mud = torch.where(mud < 0.8, 0.0, mud)
    brown = torch.tensor([63.0, 42.0, 20.0]).view(1, 3, 1, 1) / 255
    return images * (1 - mud) + brown * mud


def saturate(images: Tensor, _: torch.Generator) -> Tensor:
    """The saturation of HSV times 2.5 plus 0.2, at most 1; hue and value stay."""
    value = images.amax(1, keepdim=True)
    range_ = value - images.amin(1, keepdim=True)
    saturation = torch.where(value > 0, range_ / value.clamp(min=1e-12), 0.0)
    raised = (2.5 * saturation + 0.2).clamp(0, 1)
    # With hue and value as they are, a channel is value * (1 - s * f), and f does not depend on s. Grey has hue 0: red.
    red = torch.tensor([0.0, 1.0, 1.0]).view(1, 3, 1, 1).expand_as(images)
    far = torch.where(range_ > 0, (value - images) / range_.clamp(min=1e-12), red)
    return value * (1 - raised * far)


CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}
"""By name; images are float32 ``[n, 3, H, W]`` from 0 to 1."""


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Each channel blurred by a Gaussian that ends after four deviations; edges go on as they end."""
    reach = int(4 * deviation + 0.5)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    flat = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, kernel), kernel.transpose(2, 3))[:, 0].view_as(images)


def corrupted(name: str, pixels: Tensor, seed: int = 0) -> Tensor:
    """Images uint8 ``[n, H, W, 3]`` with the corruption of that name."""
    random = torch.Generator().manual_seed(1000 * seed + list(CORRUPTIONS).index(name))
    corrupted = CORRUPTIONS[name](pixels.permute(0, 3, 1, 2).float() / 255, random)
    return (corrupted.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def write(cifar: Path, out: Path) -> None:
    """Write the folder.

    Raises:
        FileNotFoundError: ``cifar`` holds no CIFAR-10.
    """
    test = load(cifar)[1]
    images, labels = test.images[FIRST : FIRST + COUNT], test.labels[FIRST : FIRST + COUNT]
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "labels.npy", labels.numpy())
    np.save(out / "clean.npy", images.numpy())
    for name in CORRUPTIONS:
        np.save(out / f"{name}.npy", corrupted(name, images).numpy())


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cifar",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="CIFAR-10 in a form that benchmarks/training/cifar10.py reads",
    )
    parser.add_argument("--out", type=Path, default=Path("results/held-out"), metavar="FOLDER", help="folder to write")
    options = parser.parse_args(arguments)
    try:
        write(options.cifar, options.out)
    except OSError as error:
        print(f"held_out: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
