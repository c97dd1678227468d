"""Domains in arrays, laid out as CIFAR-10-C is: a file of pixels for each corruption, and one of labels for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.domains import CLEAN, SEVERITIES, Domain, Labels, sort_published
from app.evaluation.errors import DataError

LABELS = "labels"
_HINT = "expected uint8 [N, H, W, 3] in <corruption>.npy and integers [N] in labels.npy, as CIFAR-10-C has them"


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Successive rows of an array file that is mapped into memory, not read."""

    pixels: NDArray[np.uint8]
    labels: Labels

    def take(self, indices: NDArray[np.int64]) -> Tensor:
        """Read these rows: uint8 ``[n, H, W, 3]``."""
        return torch.from_numpy(np.array(self.pixels[indices]))


def array_domains(folder: Path) -> list[Domain]:
    """The domains of a folder of arrays: ``<corruption>.npy``, `labels.npy` and perhaps `clean.npy`.

    The public files hold five severities, one block of rows after another; see `_blocks` for their detection.

    Raises:
        DataError: labels are missing, or a file's type, shape or length does not fit the labels.
    """
    labels = _labels(folder / f"{LABELS}.npy")
    files = {path.stem: _pixels(path) for path in sorted(folder.glob("*.npy")) if path.stem != LABELS}
    if not files:
        raise DataError(f"{folder} has labels but no images", hint=_HINT)
    blocks = _blocks(labels, len(files[CLEAN]) if CLEAN in files else None)
    domains: list[Domain] = []
    for name in sort_published(list(files)):
        pixels = files[name]
        if name == CLEAN and blocks > 1 and blocks * len(pixels) == len(labels):
            domains.append(Domain(name, None, ArrayImages(pixels, labels[: len(pixels)])))
            continue
        _check_length(folder / f"{name}.npy", pixels, labels)
        if blocks == 1 or name == CLEAN:
            domains.append(Domain(name, None, ArrayImages(pixels, labels)))
            continue
        n = len(labels) // blocks
        rows = [slice(n * i, n * (i + 1)) for i in range(blocks)]
        domains += [Domain(name, s, ArrayImages(pixels[r], labels[r])) for s, r in zip(SEVERITIES, rows, strict=True)]
    return domains


def _blocks(labels: Labels, clean: int | None) -> int:
    """Return 5 where the rows are five severities of the same images, else 1.

    They are if the labels repeat in five equal blocks. Labels in rotation (0, 1, ..., 9, 0, 1, ...) do so too: then a
    shorter run of them repeats as well, and only a clean file with as many images as a block proves severities.
    """
    n, remainder = divmod(len(labels), len(SEVERITIES))
    if remainder or not _repeats(labels, n):
        return 1
    if clean == n:
        return len(SEVERITIES)
    block = labels[:n]
    shorter = any(n % period == 0 and _repeats(block, period) for period in range(1, n // 2 + 1))
    return 1 if shorter or n == 1 else len(SEVERITIES)


def _repeats(labels: Labels, period: int) -> bool:
    return bool(np.array_equal(labels[period:], labels[:-period]))


def _load_array(path: Path) -> NDArray[np.generic]:
    try:
        array: object = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="download or write it again") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an archive of several arrays, not one array", hint=_HINT)
    return array


def _labels(path: Path) -> Labels:
    if not path.exists():
        raise DataError(f"{path.name} is missing in {path.parent}", hint=_HINT)
    labels = _load_array(path)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path} is {_describe_array(labels)}, not integers [N]", hint=_HINT)
    if not len(labels):
        raise DataError(f"{path} is empty", hint=_HINT)
    if labels.min() < 0:
        raise DataError(f"{path} has the label {labels.min()}", hint="labels are class numbers 0, 1, 2, ...")
    return np.array(labels, np.int64)


def _pixels(path: Path) -> NDArray[np.uint8]:
    pixels = _load_array(path)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape[1:]:
        raise DataError(f"{path} is {_describe_array(pixels)}, not uint8 [N, H, W, 3]", hint=_HINT)
    return pixels.view(np.uint8)


def _check_length(path: Path, pixels: NDArray[np.uint8], labels: Labels) -> None:
    if len(pixels) != len(labels):
        raise DataError(
            f"{path} has {len(pixels)} images, but {LABELS}.npy has {len(labels)} labels",
            hint="every image needs its label: take both files from the same download",
        )


def _describe_array(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {list(array.shape)}"
