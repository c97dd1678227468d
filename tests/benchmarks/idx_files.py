"""A tiny MNIST on disk."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_mnist(root: Path, training: int, test: int) -> dict[str, NDArray[np.uint8]]:
    """Write the four files, with labels 0, 1, 2, ... and images by chance, and return the images."""
    written = {}
    for name, count in (("train", training), ("t10k", test)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (root / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (root / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
        written[name] = images
    return written
