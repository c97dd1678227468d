"""Blends: the changes that two corruptions make to the same image, added with weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import Domain
from app.evaluation.errors import DataError
from app.evaluation.types import Blend

_HINT = "a walk needs arrays as CIFAR-10-C has them: clean.npy and CORRUPTION.npy with the same images in the same rows"


def blend_pixels(
    clean: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8], weights: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Add the changes of two corruptions to clean images: ``clean + u (first - clean) + v (second - clean)``.

    Pixels are uint8 ``[n, H, W, 3]``, ``weights`` the pairs u, v, ``[n, 2]``; results are rounded and clipped.
    Weights 0, 0 give the clean image, 1, 0 and 0, 1 the corrupted ones, and 1, 1 both changes on top of each other.

    >>> clean, first, second = (np.full((1, 1, 1, 3), value, np.uint8) for value in (100, 200, 60))
    >>> blend_pixels(clean, first, second, np.array([[0.5, 0.25]]))[0, 0, 0].tolist()
    [140, 140, 140]
    """
    base = clean.astype(np.float32)
    u, v = (weights[:, i].astype(np.float32)[:, None, None, None] for i in (0, 1))
    blended = base + u * (first.astype(np.float32) - base) + v * (second.astype(np.float32) - base)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def blend_images(
    dataset: Dataset, domain: NDArray[np.int32], image: NDArray[np.int64], blend: Blend, part: slice
) -> Tensor:
    """Return the blended images of a request, uint8 ``[n, H, W, 3]``.

    ``domain`` and ``image``, ``[n]``, are those of the request, ``part`` its place in the whole ``blend``.

    Raises:
        DataError: the data cannot be blended.
    """
    clean = _pixels(clean_domain(dataset), image)
    first, second = (_pixels_of_domains(dataset, numbers, image) for numbers in (domain, blend.second[part]))
    return torch.from_numpy(blend_pixels(clean, first, second, blend.weights[part]))


def check_blendable(dataset: Dataset, numbers: Iterable[int]) -> None:
    """Check that these domains show the clean images, in the same rows and of the same size.

    Raises:
        DataError: there are no clean images, or a domain has other ones, or files instead of pixels.
    """
    clean = clean_domain(dataset)
    shape = _pixels(clean, np.zeros(1, np.int64)).shape
    for domain in (dataset.domains[number] for number in numbers):
        if not np.array_equal(domain.labels, clean.labels):
            raise DataError(f"{domain.title} has other images than the clean ones: they cannot be blended", hint=_HINT)
        if _pixels(domain, np.zeros(1, np.int64)).shape != shape:
            raise DataError(f"{domain.title} has images of another size than the clean ones", hint=_HINT)


def clean_domain(dataset: Dataset) -> Domain:
    """Return the clean images.

    Raises:
        DataError: there are none.
    """
    if dataset.clean is None:
        raise DataError("the data have no clean images to blend corruptions into", hint=_HINT)
    return dataset.clean


def _pixels_of_domains(dataset: Dataset, numbers: NDArray[np.int32], image: NDArray[np.int64]) -> NDArray[np.uint8]:
    present = np.unique(numbers)
    if len(present) == 1:
        return _pixels(dataset.domains[int(present[0])], image)
    parts = {int(number): np.flatnonzero(numbers == number) for number in present}
    pixels = np.concatenate([_pixels(dataset.domains[number], image[place]) for number, place in parts.items()])
    return pixels[np.argsort(np.concatenate(list(parts.values())))]


def _pixels(domain: Domain, image: NDArray[np.int64]) -> NDArray[np.uint8]:
    images = domain.take(image)
    if not isinstance(images, Tensor):
        raise DataError(f"{domain.title} is a folder of files, whose images cannot be blended", hint=_HINT)
    return images.numpy()
