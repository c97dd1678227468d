"""The bundled models, which need no download."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

from adapters import Baseline
from app.baselines import load_baseline
from app.errors import ModelError
from app.models.assemble import assemble
from app.models.hosted import Hosted, Preprocessing
from app.models.resnet20 import ResNet20
from app.models.weights import load_weights
from app.settings import Settings

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The classes of CIFAR-10, in the order of its labels."""

CIFAR10 = Preprocessing(
    size=32, resize=32, interpolation="bilinear", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
)
"""The preprocessing that the CIFAR-10 network was trained with."""


def cifar10_resnet20(settings: Settings) -> Hosted:
    """Load the bundled CIFAR-10 ResNet-20, or other weights of the same network with --weights.

    Raises:
        ModelError: the weights are missing or do not fit.
    """
    name = "cifar10-resnet20"
    network = ResNet20(len(CIFAR10_CLASSES))
    baseline = None
    if settings.weights is not None:
        weights, card = load_weights(network, settings.weights, settings.weights_key), ""
    else:
        _load_packaged(network, name)
        weights, card, baseline = "", _card(name), _baseline(name)
    hosted = assemble(
        network,
        settings,
        name=name,
        preprocessing=CIFAR10,
        classes=CIFAR10_CLASSES,
        architecture="ResNet20",
        card=card,
        weights=weights,
    )
    return replace(hosted, baseline=baseline)


def _load_packaged(network: ResNet20, name: str) -> None:
    packaged = resources.files("app").joinpath("weights", f"{name}.safetensors")
    if not packaged.is_file():
        raise ModelError(
            f"the weights of {name} are missing from the package",
            hint="install renorm again, or pass a file with --weights",
        )
    with resources.as_file(packaged) as path:
        load_weights(network, path)


def _baseline(name: str) -> Baseline:
    with resources.as_file(resources.files("app").joinpath("weights", f"{name}.baseline.safetensors")) as path:
        return load_baseline(path)


def _card(name: str) -> str:
    card = resources.files("app").joinpath("weights", f"{name}.md")
    return card.read_text(encoding="utf-8") if card.is_file() else ""
