"""Data matched to the classes of a model: those that the data have, and those that the model lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import Domain, Images, Labels
from app.evaluation.datasets.folders import FolderImages
from app.evaluation.errors import DataError
from app.evaluation.labels.matching import match_folders
from app.evaluation.labels.spellings import is_number
from app.evaluation.labels.unmatched import MAX_NAMES, quote
from app.models.labels import ClassNames


@dataclass(frozen=True, eq=False)
class MatchedDataset:
    """Data that can be scored against a model.

    ``notes`` are lines for people, ``summary`` lists the classes in few words, ``settings`` are what metrics depend on
    besides the data; ``left_out`` is true if images of unknown classes were removed.
    """

    dataset: Dataset
    notes: list[str]
    summary: str
    settings: dict[str, str] = field(default_factory=dict)
    left_out: bool = False


@dataclass(frozen=True, eq=False)
class ImageSubset:
    """A subset of the images of a domain, by their indices."""

    images: Images
    indices: NDArray[np.int64]

    @property
    def labels(self) -> Labels:
        """See `app.evaluation.datasets.domains.Images`."""
        return self.images.labels[self.indices]

    def take(self, positions: NDArray[np.int64]) -> Tensor | list[bytes]:
        """See `app.evaluation.datasets.domains.Images`."""
        return self.images.take(self.indices[positions])


def match_classes(dataset: Dataset, classes: ClassNames, *, skip_unknown: bool = False) -> MatchedDataset:
    """Find the model's class of each label of the data.

    Folders are matched by name, see `app.evaluation.labels.matching.match_folders`; labels of arrays are the model's
    numbers.

    Raises:
        DataError: the data have a class that the model lacks and ``skip_unknown`` is false, or a name is ambiguous;
            or no image is left.
    """
    return _of_folders(dataset, classes, skip_unknown) if dataset.names else _of_arrays(dataset, classes, skip_unknown)


def _of_folders(dataset: Dataset, classes: ClassNames, skip_unknown: bool) -> MatchedDataset:
    matching = match_folders(dataset.names, classes, skip_unknown=skip_unknown)
    numbers, notes = matching.numbers, []
    names = tuple(name for name in dataset.names if name in numbers)
    fitted = replace(dataset, classes=len(names), names=names, numbers=tuple(numbers[name] for name in names))
    if matching.left_out:
        notes.append(f"skipped, because the model has no such class: {quote(matching.left_out)}")
        fitted = replace(fitted, domains=[_only(domain, names) for domain in dataset.domains])
    respelled = [name for name in names if name != classes.names[numbers[name]]]
    if respelled:
        examples = ", ".join(f"{name} is {classes.names[numbers[name]]}" for name in respelled[:MAX_NAMES])
        manner = "by number" if all(map(is_number, respelled)) else "in another spelling"
        notes.append(f"{len(respelled)} of {len(names)} folders matched {manner}: {examples}{_and_more(respelled)}")
    digest = hashlib.sha256(repr(sorted(numbers.items())).encode()).hexdigest()[:16]
    return _matched(fitted, classes, {*numbers.values()}, notes, {"classes": digest}, bool(matching.left_out))


def _of_arrays(dataset: Dataset, classes: ClassNames, skip_unknown: bool) -> MatchedDataset:
    count = len(classes.names)
    present = {int(label) for domain in dataset.domains for label in np.unique(domain.labels)}
    unknown = sorted(label for label in present if label >= count)
    if not unknown:
        return _matched(dataset, classes, present, [], {}, False)
    if not skip_unknown:
        raise DataError(
            f"labels.npy has the label {unknown[-1]}, but the model has {count} classes, 0 to {count - 1}",
            hint="labels must be class numbers of the model, from 0; --skip-unknown leaves out images of other classes",
        )
    if 0 not in present and unknown == [count]:
        raise DataError(
            f"labels.npy numbers classes from 1 to {count}, but the model from 0 to {count - 1}",
            hint="subtract 1 from the labels",
        )
    fitted = replace(dataset, domains=[_below(domain, count) for domain in dataset.domains], classes=count)
    notes = [f"skipped, because the model has {count} classes: images of the labels {quote([*map(str, unknown)])}"]
    return _matched(fitted, classes, present - {*unknown}, notes, {"classes": f"below {count}"}, True)


def _matched(
    dataset: Dataset, classes: ClassNames, present: set[int], notes: list[str], settings: dict[str, str], left_out: bool
) -> MatchedDataset:
    missing = [name for i, name in enumerate(classes.names) if i not in present]
    summary = f"{len(present):,} of the model's {len(classes.names):,}"
    if missing:
        examples = ", ".join(missing[:MAX_NAMES])
        notes = [
            *notes,
            f"there are no images of {len(missing):,} of the model's {len(classes.names):,} classes: "
            f"{examples}{_and_more(missing)}",
        ]
        summary += f"; without images: {examples}{_and_more(missing)}"
    return MatchedDataset(dataset, notes, summary, settings, left_out)


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""


def _only(domain: Domain, names: tuple[str, ...]) -> Domain:
    if not isinstance(domain.images, FolderImages):
        raise TypeError(f"{domain.title} is not of folders")
    return replace(domain, images=FolderImages(domain.images.folder, names))


def _below(domain: Domain, count: int) -> Domain:
    indices = np.flatnonzero(domain.labels < count)
    if not len(indices):
        raise DataError(
            f"{domain.title} has no image of any class of the model", hint="leave it out, or check labels.npy"
        )
    return replace(domain, images=ImageSubset(domain.images, indices))
