"""The networks that `python -m benchmarks.speed` measures, and the fastest that they get without adapting."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.speed.textbook import BATCHNORM, trailing_layers

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Model:
    """A network to measure: ``build`` makes it, images have ``size`` pixels a side and come ``batches`` at a time.

    ``many``: also with many streams in a forward; ``memory``: also what streams take; ``quick``: part of a quick look.
    """

    title: str
    build: Callable[[], nn.Module]
    size: int
    batches: tuple[int, ...]
    has_streams: bool = False
    memory: bool = False
    quick: bool = False


def _resnet20() -> nn.Module:
    from app.models import load  # noqa: PLC0415
    from app.settings import Settings  # noqa: PLC0415

    return load(Settings()).network


def _from_timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        import timm  # noqa: PLC0415

        # The same weights in every run: compiled graphs, which hold them, are found again on disk.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return trained_alike(timm.create_model(name, pretrained=False), 224)

    return build


MODELS = {
    "resnet20": Model("ResNet-20", _resnet20, 32, (1, 16, 64), has_streams=True, quick=True),
    "resnet50": Model("ResNet-50", _from_timm("resnet50"), 224, (1, 16), has_streams=True, memory=True, quick=True),
    "efficientnet_b0": Model("EfficientNet-B0", _from_timm("efficientnet_b0"), 224, (1, 16)),
}
"""By the name that ``--models`` takes; the weights of the last two are random, which speed does not depend on."""

_KEPT: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, which timm needs, also where its build does not fit the one of torch.

    Wheels from PyPI are built beside a CUDA torch and fail at import beside a CPU-only one, whose operators they do not
    find. Declaring the two they ask for is enough for everything but those operators.
    """
    try:
        import torchvision  # noqa: PLC0415
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        # Kept, because the operators are gone when their library is collected.
        _KEPT.append(library)
        import torchvision  # noqa: PLC0415
    del torchvision


def trained_alike(network: nn.Module, size: int) -> nn.Module:
    """The network in ``eval()`` with the statistics of random images in its BatchNorm layers.

    Random weights with the statistics of a new layer would let activations overflow, or fade to numbers that the
    processor is slow with.
    """
    network.eval().requires_grad_(requires_grad=False)
    layers = [layer for layer in network.modules() if isinstance(layer, BATCHNORM)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
        # timm starts the last of each residual block at zero.
        layer.weight.data.uniform_(0.5, 1.5)
        layer.train()
    with torch.no_grad():
        network(torch.randn(4, 3, size, size))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return network.eval()


def folded(network: nn.Module, images: Tensor) -> nn.Module:
    """A copy with each BatchNorm folded into the convolution before it, by torch's own `fuse_conv_bn_eval`.

    The pairs are those whose tensor is seen to pass from one to the other when ``images`` go through: timm's layers
    with a fused activation do not trace as BatchNorm, so the rewriter of ``torch.fx`` would leave them.

    Raises:
        ValueError: nothing could be folded, or the copy answers otherwise than the network.
    """
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        pairs, expected = _pairs(network, images)
        once = len({second for _, second in pairs}) == len(pairs) > 0
        for first, second in pairs if once else ():
            layer: Any = network.get_submodule(second)
            _put(network, first, fuse_conv_bn_eval(cast(Any, network.get_submodule(first)), layer))
            _put(network, second, trailing_layers(layer))
        answer = network(images)
    scale = float(expected.abs().max())
    if not once or not torch.allclose(answer, expected, rtol=0.0, atol=1e-3 * scale):
        raise ValueError("BatchNorm could not be folded: expected each to read a convolution that nothing else reads")
    return network


def _pairs(network: nn.Module, images: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of convolutions and of the BatchNorm layers that read them, and the answer."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # with the tensor, so that no other one gets its id
    pairs: list[tuple[str, str]] = []

    def convolved(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _module, _inputs, output: outputs.update({id(output): (name, output)})

    def normalizes(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: pairs.extend((outputs[id(x)][0], name) for x in inputs if id(x) in outputs)

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS):
            handles.append(module.register_forward_hook(convolved(name)))
        elif isinstance(module, BATCHNORM):
            handles.append(module.register_forward_pre_hook(normalizes(name)))
    answer: Tensor = network(images)
    for handle in handles:
        handle.remove()
    return pairs, answer


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    network.get_submodule(parent).register_module(child, module)
