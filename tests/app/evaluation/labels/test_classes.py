"""Data are scored by the model's own numbers of classes, and what it does not have is refused or left out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.evaluation.datasets.data import Dataset, open_data
from app.evaluation.errors import DataError
from app.evaluation.labels.classes import match_classes
from app.evaluation.running.runner import labels_of
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.streams import make_stream
from app.models.labels import ClassNames
from tests.app.evaluation.running.test_drivers import in_process, served
from tests.app.evaluation.small_data import IMAGES, write_data

MODEL = ClassNames(("ant", "bee", "cow", "elk"))


def folders(root: Path, *classes: str, domains: tuple[str, ...] = ("fog", "clean")) -> Dataset:
    """Two pictures of each class in each domain; each of a grey of its own."""
    for domain in domains:
        for name in classes:
            (root / domain / name).mkdir(parents=True)
            for i in range(2):
                grey = 2 * (ord(name[0].lower()) - ord("0")) + i
                Image.new("L", (3, 2), grey).save(root / domain / name / f"{i}.png")
    return open_data(root)


def scores(dataset: Dataset) -> list[int]:
    return [int(number) for number in dataset.to_model_labels(dataset.domains[0].labels)]


def test_folders_are_scored_by_the_models_numbers(tmp_path: Path) -> None:
    data = folders(tmp_path, "Elk", "ant", "COW")
    fitted = match_classes(data, MODEL)
    assert fitted.dataset.names == ("COW", "Elk", "ant"), "in the order of capitals first, which says nothing"
    assert scores(fitted.dataset) == [2, 2, 3, 3, 0, 0]
    assert fitted.notes == [
        "2 of 3 folders matched in another spelling: COW is cow, Elk is elk",
        "there are no images of 1 of the model's 4 classes: bee",
    ]
    assert fitted.summary == "3 of the model's 4; without images: bee"
    assert not fitted.left_out
    stream = make_stream(fitted.dataset, "clean", parse_order("iid"), 0)
    assert sorted(labels_of(fitted.dataset, stream)) == [0, 0, 2, 2, 3, 3]


def test_settings_change_with_the_matching_of_classes(tmp_path: Path) -> None:
    data = folders(tmp_path, "ant", "bee")
    digests = {match_classes(data, ClassNames(names)).settings["classes"] for names in (("ant", "bee"), ("bee", "ant"))}
    assert len(digests) == 2


def test_an_unknown_class_is_refused_or_skipped(tmp_path: Path) -> None:
    data = folders(tmp_path, "ant", "zebra", "bee")
    with pytest.raises(DataError, match="'zebra' is not a class of the model") as caught:
        match_classes(data, MODEL)
    assert "--skip-unknown" in caught.value.hint
    (tmp_path / "fog" / "zebra" / "0.png").unlink()
    (tmp_path / "fog" / "zebra" / "1.png").unlink()
    fitted = match_classes(data, MODEL, skip_unknown=True)
    assert fitted.left_out
    assert fitted.notes[0] == "skipped, because the model has no such class: 'zebra'"
    assert scores(fitted.dataset) == [0, 0, 1, 1], "and its pictures are not even looked for"
    files = fitted.dataset.domains[1].take(np.arange(4))
    assert isinstance(files, list)
    assert len({*files}) == 4
    with pytest.raises(DataError, match="are not classes"):
        match_classes(folders(tmp_path / "other", "x", "y"), MODEL, skip_unknown=True)


def test_folders_matched_by_number_are_noted(tmp_path: Path) -> None:
    fitted = match_classes(folders(tmp_path, "0", "2", "3"), MODEL)
    assert scores(fitted.dataset) == [0, 0, 2, 2, 3, 3]
    assert fitted.notes[0] == "3 of 3 folders matched by number: 0 is ant, 2 is cow, 3 is elk"


def test_array_labels_outside_the_model_are_refused_or_skipped(tmp_path: Path) -> None:
    data = open_data(write_data(tmp_path))
    fitted = match_classes(data, MODEL)
    assert fitted.dataset is data
    assert (fitted.notes, fitted.settings, fitted.left_out) == ([], {}, False)
    assert match_classes(data, ClassNames(tuple("abcdef"))).notes == [
        "there are no images of 2 of the model's 6 classes: e, f"
    ]
    three = ClassNames(MODEL.names[:3])
    with pytest.raises(DataError, match=r"labels\.npy has the label 3, but the model has 3 classes, 0 to 2") as caught:
        match_classes(data, three)
    assert "--skip-unknown" in caught.value.hint
    subset = match_classes(data, three, skip_unknown=True)
    assert subset.left_out
    assert subset.notes == ["skipped, because the model has 3 classes: images of the labels '3'"]
    domain, full_domain = subset.dataset.domains[0], data.domains[0]
    assert domain.labels.tolist() == [0, 1, 2] * (IMAGES // 4)
    chosen = np.array([4, 0])
    assert np.array_equal(domain.take(chosen), full_domain.take(np.array([5, 0])))


def test_labels_that_count_from_one_are_refused_not_skipped(tmp_path: Path) -> None:
    write_data(tmp_path)
    np.save(tmp_path / "labels.npy", np.load(tmp_path / "labels.npy") + 1)
    with pytest.raises(DataError, match="from 1 to 4, but the model from 0 to 3"):
        match_classes(open_data(tmp_path), MODEL, skip_unknown=True)
    np.save(tmp_path / "labels.npy", np.full(IMAGES, 9))
    with pytest.raises(DataError, match="has no image of any class of the model"):
        match_classes(open_data(tmp_path), MODEL, skip_unknown=True)


def test_classes_of_server_equal_those_of_engine() -> None:
    async def ask_both() -> tuple[ClassNames, ClassNames]:
        async with in_process() as near, served() as far:
            return await near.classes(), await far.classes()

    near, far = asyncio.run(ask_both())
    assert near == far == (("a", "b", "c", "d"), ())
