"""Blends of corruptions: from the clean image to both changes on top of each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import Domain
from app.evaluation.datasets.folders import FolderImages
from app.evaluation.errors import DataError
from app.evaluation.types import Blend
from app.evaluation.walks.blends import blend_images, blend_pixels, check_blendable
from tests.app.evaluation.walks.blendable import LABELS, Pixels, blendable

DATA = blendable(fog=100, snow=160)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_blend_is_the_sum_of_the_weighted_changes(seed: int, u: float, v: float) -> None:
    clean, first, second = np.random.default_rng(seed).integers(0, 256, (3, 4, 2, 3, 3), dtype=np.uint8)
    blended = blend_pixels(clean, first, second, np.tile([u, v], (4, 1)))
    exact = clean + u * (first.astype(float) - clean) + v * (second.astype(float) - clean)
    assert np.abs(blended - np.clip(exact, 0, 255)).max() <= 0.51
    swapped = blend_pixels(clean, second, first, np.tile([v, u], (4, 1)))
    assert np.abs(blended.astype(int) - swapped).max() <= 1
    for weights, expected in (((0, 0), clean), ((1, 0), first), ((0, 1), second)):
        assert np.array_equal(blend_pixels(clean, first, second, np.tile(weights, (4, 1)).astype(float)), expected)


def test_a_request_blends_each_image_with_its_own_corruptions() -> None:
    blend = Blend(np.array([9, 1, 0, 1], np.int32), np.array([[0, 0], [0.5, 0.25], [1, 0], [0, 0]], np.float32))
    images = blend_images(DATA, np.array([0, 1, 1], np.int32), np.array([7, 3, 90]), blend, slice(1, 4))
    assert images[:, 0, 0, :2].tolist() == [[7, LABELS[7]], [3, LABELS[3]], [90, LABELS[90]]]
    assert images[:, 0, 1, 0].tolist() == [90, 160, 0]


def _with(domain: Domain) -> Dataset:
    return replace(DATA, domains=[DATA.domains[0], domain, DATA.domains[2]])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (replace(DATA, domains=DATA.domains[:2]), "no clean images to blend"),
        (_with(Domain("snow", None, Pixels(LABELS[::-1], 1))), "snow has other images than the clean ones"),
        (_with(Domain("snow", None, Pixels(LABELS[:50], 1))), "snow has other images than the clean ones"),
    ],
)
def test_data_that_cannot_be_blended_are_refused(dataset: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_blendable(dataset, [0, 1])
    assert "clean.npy" in caught.value.hint


def test_folders_of_files_cannot_be_blended(small_folders: Dataset) -> None:
    with pytest.raises(DataError, match="clean is a folder of files, whose images cannot be blended"):
        check_blendable(small_folders, small_folders.shifted)


@pytest.fixture
def small_folders(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("folders")
    for name in ("fog", "clean"):
        (root / name / "a").mkdir(parents=True)
        (root / name / "a" / "1.png").write_bytes(b"file")
    domains = [Domain(name, None, FolderImages(root / name, ("a",))) for name in ("fog", "clean")]
    return Dataset(domains, [0], 1)
