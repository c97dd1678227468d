"""Networks that the studies host beside the bundled one; README.md in this folder has their recipes and accuracies.

renorm evaluate --model python:benchmarks.networks:vgg --weights benchmarks/networks/cifar10-vgg.safetensors ...
"""

from benchmarks.networks.digits import Digits
from benchmarks.networks.vgg import Vgg

__all__ = ["digits", "vgg"]


def vgg() -> Vgg:
    """Return the VGG for CIFAR-10, untrained."""
    return Vgg()


def digits() -> Digits:
    """Return the network for MNIST, untrained."""
    return Digits()
