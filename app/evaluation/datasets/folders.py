"""Domains in folders of image files: ``<domain>/<class>/...``, or ``<corruption>/<severity>/<class>/...``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from app.evaluation.datasets.domains import CLEAN, SEVERITIES, Domain, Labels, sort_published
from app.evaluation.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_HINT = "expected <domain>/<class>/*.png, or <corruption>/<severity 1 to 5>/<class>/*.png as ImageNet-C has it"


@dataclass(frozen=True, eq=False)
class FolderImages:
    """The image files below one folder for each class, listed on first use."""

    folder: Path
    classes: tuple[str, ...]

    @cached_property
    def _files_and_labels(self) -> tuple[list[Path], Labels]:
        files: list[Path] = []
        counts: list[int] = []
        for name in self.classes:
            images = list(_image_files(self.folder / name))
            if not images:
                endings = ", ".join(SUFFIXES)
                raise DataError(f"{self.folder / name} has no image ({endings})", hint="each class needs images")
            files += images
            counts.append(len(images))
        return files, np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    @property
    def labels(self) -> Labels:
        """Class by class, ``[N]``."""
        return self._files_and_labels[1]

    def take(self, indices: NDArray[np.int64]) -> list[bytes]:
        """The files' bytes, undecoded.

        Raises:
            DataError: a file cannot be read.
        """
        files = self._files_and_labels[0]
        try:
            return [files[i].read_bytes() for i in indices.tolist()]
        except OSError as error:
            raise DataError(f"an image cannot be read: {error}", hint="check the folder and its permissions") from error


def folder_domains(root: Path) -> tuple[list[Domain], tuple[str, ...]]:
    """The domains below a folder, and their classes sorted as torchvision's ``ImageFolder`` sorts them.

    Raises:
        DataError: there are no domains, a folder has no classes, or domains differ in their classes.
    """
    places = [place for name in sort_published(folder_names(root)) for place in _places(root / name)]
    if not places:
        raise DataError(f"{root} contains no data", hint=f"{_HINT}; or <corruption>.npy and labels.npy")
    first = places[0][1]
    classes = tuple(_classes(first))
    for _, folder in places[1:]:
        _same_classes(classes, first, tuple(_classes(folder)), folder)
    names = [place.relative_to(root).parts[0] for _, place in places]
    return [Domain(name, s, FolderImages(f, classes)) for name, (s, f) in zip(names, places, strict=True)], classes


def _places(folder: Path) -> list[tuple[int | None, Path]]:
    """The folders of classes with their severity: the folder itself, unless it holds severities that hold classes."""
    inside = folder_names(folder)
    numbers = {str(severity) for severity in SEVERITIES}
    if (
        folder.name == CLEAN
        or not inside
        or not all(name.isdecimal() and folder_names(folder / name) for name in inside)
    ):
        return [(None, folder)]
    unknown = [name for name in inside if name not in numbers]
    if unknown:
        raise DataError(f"{folder} has an unknown severity {unknown[0]}", hint="severities are the folders 1 to 5")
    return [(int(name), folder / name) for name in inside]


def _classes(folder: Path) -> list[str]:
    classes = folder_names(folder)
    if not classes:
        raise DataError(f"{folder} has no class folders", hint=_HINT)
    return classes


def _same_classes(classes: tuple[str, ...], first: Path, folder_classes: tuple[str, ...], folder: Path) -> None:
    if classes == folder_classes:
        return
    missing, extra = sorted({*classes} - {*folder_classes}), sorted({*folder_classes} - {*classes})
    problem = f"lacks the class {missing[0]} of" if missing else f"has the class {extra[0]}, which is missing in"
    raise DataError(f"{folder} {problem} {first}", hint="all domains need the same class folders")


def folder_names(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _cannot_list(error)


def _cannot_list(error: OSError) -> NoReturn:
    raise DataError(
        f"{error.filename} cannot be listed: {error.strerror}", hint="allow this user to read it"
    ) from error


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield the image files of a folder and its subfolders, in an order that does not depend on the file system."""
    for place, _, names in sorted(os.walk(folder, onerror=_cannot_list, followlinks=True)):
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(place, name)
