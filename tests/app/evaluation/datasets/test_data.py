"""Folders of arrays and of image files: which domains are found, what they hold, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from app.errors import RenormError
from app.evaluation.datasets.data import Dataset, fingerprint, open_data
from app.evaluation.datasets.domains import PUBLISHED
from app.evaluation.errors import DataError

LABELS = np.array([2, 0, 1, 2, 0, 1, 1])


def _pixels(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), np.uint8)


def _arrays(folder: Path, labels: NDArray[np.int64] = LABELS, **rows: int) -> Path:
    """Arrays of that many rows by name, each with pixels of its own."""
    np.save(folder / "labels.npy", labels)
    for seed, (name, n) in enumerate(rows.items()):
        np.save(folder / f"{name}.npy", _pixels(n, seed))
    return folder


def _image(folder: Path, name: str, grey: int = 0) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    written = BytesIO()
    Image.new("RGB", (3, 2), (grey, grey, grey)).save(written, "PNG")
    (folder / name).write_bytes(written.getvalue())
    return written.getvalue()


def _titles(data: Dataset) -> list[str]:
    return [domain.title for domain in data.domains]


def test_arrays_of_one_severity_are_domains_in_published_order(tmp_path: Path) -> None:
    data = open_data(_arrays(tmp_path, zigzag=7, fog=7, clean=7, gaussian_noise=7, arc=7))
    assert _titles(data) == ["gaussian_noise", "fog", "arc", "zigzag", "clean"]
    assert data.corruptions == ["gaussian_noise", "fog", "arc", "zigzag"]
    assert (data.classes, data.has_all_severities) == (3, False)
    assert data.clean is data.domains[data.find("clean")]
    images = data.domains[1].take(np.array([5, 0, 5]))
    assert isinstance(images, torch.Tensor)
    assert torch.equal(images, torch.from_numpy(_pixels(7, 1)[[5, 0, 5]])), "fog was written second"
    assert all(domain.labels.tolist() == LABELS.tolist() for domain in data.domains)
    assert data.domains[0].labels.dtype == np.int64


def test_arrays_are_mapped_and_what_is_taken_is_a_copy(tmp_path: Path) -> None:
    domain = open_data(_arrays(tmp_path, fog=7)).domains[0]
    images = domain.take(np.arange(7))
    assert isinstance(images, torch.Tensor)
    images.zero_()
    again = domain.take(np.arange(7))
    assert isinstance(again, torch.Tensor)
    assert np.array_equal(again.numpy(), _pixels(7))
    assert isinstance(getattr(domain.images, "pixels"), np.memmap)  # noqa: B009  # of the array form only


def test_five_blocks_of_rows_are_five_severities(tmp_path: Path) -> None:
    data = open_data(_arrays(tmp_path, np.tile(LABELS, 5), snow=35, fog=35, clean=7), severity=3)
    assert _titles(data) == [*(f"snow {s}" for s in range(1, 6)), *(f"fog {s}" for s in range(1, 6)), "clean"]
    assert [data.domains[number].title for number in data.shifted] == ["snow 3", "fog 3"]
    assert data.has_all_severities
    fog = data.domains[data.find("fog", 4)].take(np.array([6, 0]))
    assert isinstance(fog, torch.Tensor)
    assert np.array_equal(fog.numpy(), _pixels(35, 1)[[27, 21]])
    assert all(len(domain.labels) == 7 for domain in data.domains)


def test_domain_indices_do_not_depend_on_severity(tmp_path: Path) -> None:
    _arrays(tmp_path, np.tile(LABELS, 5), snow=35, fog=35)
    assert _titles(open_data(tmp_path, 1)) == _titles(open_data(tmp_path, 5))


def test_labels_in_rotation_are_severities_only_with_as_many_clean_images(tmp_path: Path) -> None:
    in_turn = np.arange(30) % 3
    assert _titles(open_data(_arrays(tmp_path, in_turn, fog=30))) == ["fog"]
    assert _titles(open_data(_arrays(tmp_path, in_turn, fog=30, clean=30))) == ["fog", "clean"]
    assert open_data(_arrays(tmp_path, in_turn, fog=30, clean=6)).has_all_severities


def test_labels_that_nearly_repeat_are_no_severities(tmp_path: Path) -> None:
    labels = np.tile(LABELS, 5)
    labels[-1] = 0
    assert _titles(open_data(_arrays(tmp_path, labels, fog=35))) == ["fog"]


def _text(path: Path) -> None:
    path.write_text("no array")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("labels", np.zeros(6, np.int64), "fog.npy has 7 images, but labels.npy has 6 labels"),
        ("labels", np.zeros(7), "float64"),
        ("labels", np.zeros((7, 1), np.int64), "integers"),
        ("labels", np.zeros(0, np.int64), "labels.npy is empty"),
        ("labels", np.full(7, -1), "label -1"),
        ("fog", np.zeros((7, 4, 4, 3), np.float32), "float32"),
        ("fog", np.zeros((7, 3, 4, 4), np.uint8), "not uint8"),
        ("fog", np.zeros((7, 4, 4), np.uint8), "not uint8"),
        ("clean", np.zeros((5, 4, 4, 3), np.uint8), "clean.npy has 5 images"),
        ("fog", _text, "cannot be read"),
        ("fog", _empty, "cannot be read"),
        ("labels", _text, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, name: str, wrong: NDArray[np.generic] | Callable[[Path], None], message: str
) -> None:
    path = _arrays(tmp_path, fog=7) / f"{name}.npy"
    if callable(wrong):
        wrong(path)
    else:
        np.save(path, wrong)
    with pytest.raises(DataError, match=message) as caught:
        open_data(tmp_path)
    assert caught.value.hint
    assert isinstance(caught.value, RenormError)


def test_missing_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        open_data(tmp_path / "none")
    with pytest.raises(DataError, match="contains no data"):
        open_data(tmp_path)
    np.save(tmp_path / "fog.npy", _pixels(7))
    with pytest.raises(DataError, match=r"labels\.npy is missing"):
        open_data(tmp_path)
    (tmp_path / "fog.npy").unlink()
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(DataError, match="labels but no images"):
        open_data(tmp_path)


def test_a_missing_severity_is_refused(tmp_path: Path) -> None:
    _arrays(tmp_path, fog=7)
    for severity in (0, 6):
        with pytest.raises(DataError, match=f"severity {severity} does not exist"):
            open_data(tmp_path, severity)
    with pytest.raises(DataError, match="severity 3 is not available"):
        open_data(tmp_path, 3)
    with pytest.raises(DataError, match="the data have no fog at severity 3"):
        open_data(tmp_path).find("fog", 3)


def test_folders_of_images_are_domains_of_files(tmp_path: Path) -> None:
    written = {}
    for kind, grey in (("fog", 10), ("night", 20), ("clean", 30)):
        for place, name in enumerate(("cat/b.png", "cat/a.PNG", "Dog/c.jpeg", "cat/in/d.bmp")):
            path = tmp_path / kind / name
            written[kind, name] = _image(path.parent, path.name, grey + place)
    (tmp_path / "fog" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "fog" / "cat" / "._a.png").write_bytes(b"nor this")
    (tmp_path / "fog" / ".thumbnails").mkdir()
    data = open_data(tmp_path)
    assert _titles(data) == ["fog", "night", "clean"]
    assert data.names == ("Dog", "cat"), "sorted as torchvision does: capitals first"
    assert (data.classes, data.has_all_severities, data.shifted) == (2, False, [0, 1])
    for domain in data.domains:
        assert domain.labels.tolist() == [0, 1, 1, 1]
        order = ["Dog/c.jpeg", "cat/a.PNG", "cat/b.png", "cat/in/d.bmp"]
        assert domain.take(np.array([3, 0, 1, 2])) == [written[domain.name, order[i]] for i in (3, 0, 1, 2)]


def _severities(root: Path, *corruptions: str, severities: str = "12345") -> Path:
    for corruption in corruptions:
        for severity in severities:
            _image(root / corruption / severity / "cat", "a.png", int(severity))
    return root


def test_severity_folders_follow_imagenet_c(tmp_path: Path) -> None:
    _image(tmp_path / "clean" / "cat", "a.png")
    data = open_data(_severities(tmp_path, "fog", "snow"), severity=2)
    assert [data.domains[number].title for number in data.shifted] == ["snow 2", "fog 2"]
    assert data.has_all_severities
    assert data.clean is not None
    assert data.clean.severity is None
    fog = data.domains[data.find("fog", 4)]
    assert fog.take(np.array([0])) == [(tmp_path / "fog" / "4" / "cat" / "a.png").read_bytes()]


def test_a_missing_or_unknown_severity_of_folders_is_refused(tmp_path: Path) -> None:
    data = open_data(_severities(tmp_path, "fog", severities="15"))
    assert not data.has_all_severities
    with pytest.raises(DataError, match="fog has no severity 3") as caught:
        open_data(tmp_path, 3)
    assert caught.value.hint == "it has 1, 5"
    _severities(tmp_path, "fog", severities="6")
    with pytest.raises(DataError, match="unknown severity 6"):
        open_data(tmp_path)


def test_classes_named_by_digits_are_no_severities(tmp_path: Path) -> None:
    for label in "123":
        _image(tmp_path / "fog" / label, "a.png")
    data = open_data(tmp_path)
    assert (_titles(data), data.names) == (["fog"], ("1", "2", "3"))


def test_classes_that_differ_between_domains_are_refused(tmp_path: Path) -> None:
    for place in ("fog/cat", "fog/dog", "night/cat"):
        _image(tmp_path / place, "a.png")
    with pytest.raises(DataError, match=r"night lacks the class dog of .*fog"):
        open_data(tmp_path)
    for place in ("night/dog", "night/emu"):
        _image(tmp_path / place, "a.png")
    with pytest.raises(DataError, match="night has the class emu"):
        open_data(tmp_path)


def test_an_empty_class_and_a_domain_without_classes_are_refused(tmp_path: Path) -> None:
    _image(tmp_path / "fog" / "cat", "a.png")
    (tmp_path / "fog" / "dog").mkdir()
    domain = open_data(tmp_path).domains[0]
    with pytest.raises(DataError, match=r"dog has no image \(.png"):
        _ = domain.labels
    _image(tmp_path / "night", "a.png")
    with pytest.raises(DataError, match="night has no class folders"):
        open_data(tmp_path)


def test_a_deleted_image_is_named_in_the_error(tmp_path: Path) -> None:
    _image(tmp_path / "fog" / "cat", "a.png")
    domain = open_data(tmp_path).domains[0]
    assert domain.labels.tolist() == [0]
    (tmp_path / "fog" / "cat" / "a.png").unlink()
    with pytest.raises(DataError, match=r"cannot be read: .*a\.png"):
        domain.take(np.array([0]))


def test_a_fingerprint_changes_with_labels_names_and_images(tmp_path: Path) -> None:
    def current_digest() -> str:
        return fingerprint(open_data(tmp_path), [0])

    first = fingerprint(open_data(_arrays(tmp_path, fog=7, snow=7)), [1])
    assert first == fingerprint(open_data(tmp_path), [1])
    (tmp_path / "snow.npy").unlink()
    assert current_digest() == first, "other domains do not count"
    np.save(tmp_path / "labels.npy", LABELS[::-1])
    relabelled = current_digest()
    (tmp_path / "fog.npy").rename(tmp_path / "frost.npy")
    renamed = current_digest()
    pixels = _pixels(7)
    pixels[-1, -1, -1, -1] ^= 1
    np.save(tmp_path / "frost.npy", pixels)
    assert len({first, relabelled, renamed, current_digest()}) == 4


def test_published_corruptions_are_fifteen() -> None:
    assert len({*PUBLISHED}) == len(PUBLISHED) == 15


def test_only_selects_corruptions_in_published_order(tmp_path: Path) -> None:
    for name in ("fog", "brightness", "gaussian_noise", "clean"):
        np.save(tmp_path / f"{name}.npy", np.zeros((4, 2, 2, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(4))
    full_dataset = open_data(tmp_path)
    some = full_dataset.select(["fog", "gaussian_noise"])
    assert some.corruptions == ["gaussian_noise", "fog"]
    assert [some.domains[number].name for number in some.shifted] == some.corruptions
    assert (some.clean, full_dataset.select([]).corruptions) == (full_dataset.clean, full_dataset.corruptions)
    with pytest.raises(DataError, match="the data have no rain") as caught:
        full_dataset.select(["fog", "rain"])
    assert caught.value.hint == "choose from gaussian_noise, fog, brightness"
