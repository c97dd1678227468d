"""Data whose labels are those of the model: which of its classes they hold, and what of them it does not have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import Domain, Images, Labels
from app.evaluation.datasets.folders import Files
from app.evaluation.errors import DataError
from app.evaluation.labels.matching import match_folders
from app.evaluation.labels.spellings import is_number
from app.evaluation.labels.unmatched import MOST, listed
from app.models.labels import ClassNames


@dataclass(frozen=True, eq=False)
class Fitted:
    """Data that can be scored against a model.

    ``notes`` are lines for people, ``summary`` says in few words which classes there are, ``settings`` are what figures
    depend on beside the data; ``left_out`` says that images are missing which the data had.
    """

    dataset: Dataset
    notes: list[str]
    summary: str
    settings: dict[str, str] = field(default_factory=dict)
    left_out: bool = False


@dataclass(frozen=True, eq=False)
class Some:
    """Some of the images of a domain, by their indices."""

    images: Images
    indices: NDArray[np.int64]

    @property
    def labels(self) -> Labels:
        """See `app.evaluation.datasets.domains.Images`."""
        return self.images.labels[self.indices]

    def take(self, positions: NDArray[np.int64]) -> Tensor | list[bytes]:
        """See `app.evaluation.datasets.domains.Images`."""
        return self.images.take(self.indices[positions])


def fit_classes(dataset: Dataset, classes: ClassNames, *, skip_unknown: bool = False) -> Fitted:
    """Find the model's class of each label of the data.

    Folders are matched by name, see `app.evaluation.labels.matching.match_folders`; labels of arrays are the model's
    numbers.

    Raises:
        DataError: the data hold a class that the model does not have and ``skip_unknown`` does not leave it out, or
            names are not clear; or no image is left.
    """
    return _of_folders(dataset, classes, skip_unknown) if dataset.names else _of_arrays(dataset, classes, skip_unknown)


def _of_folders(dataset: Dataset, classes: ClassNames, skip_unknown: bool) -> Fitted:
    matching = match_folders(dataset.names, classes, skip_unknown=skip_unknown)
    numbers, notes = matching.numbers, []
    names = tuple(name for name in dataset.names if name in numbers)
    fitted = replace(dataset, classes=len(names), names=names, numbers=tuple(numbers[name] for name in names))
    if matching.left_out:
        notes.append(f"left out, because the model has no such class: {listed(matching.left_out)}")
        fitted = replace(fitted, domains=[_only(domain, names) for domain in dataset.domains])
    respelled = [name for name in names if name != classes.names[numbers[name]]]
    if respelled:
        examples = ", ".join(f"{name} is {classes.names[numbers[name]]}" for name in respelled[:MOST])
        manner = "by number" if all(map(is_number, respelled)) else "in another spelling"
        notes.append(f"{len(respelled)} of {len(names)} folders matched {manner}: {examples}{_and_more(respelled)}")
    digest = hashlib.sha256(repr(sorted(numbers.items())).encode()).hexdigest()[:16]
    return _fitted(fitted, classes, {*numbers.values()}, notes, {"classes": digest}, bool(matching.left_out))


def _of_arrays(dataset: Dataset, classes: ClassNames, skip_unknown: bool) -> Fitted:
    count = len(classes.names)
    present = {int(label) for domain in dataset.domains for label in np.unique(domain.labels)}
    unknown = sorted(label for label in present if label >= count)
    if not unknown:
        return _fitted(dataset, classes, present, [], {}, False)
    if not skip_unknown:
        raise DataError(
            f"labels.npy has the label {unknown[-1]}, and the model {count} classes, 0 to {count - 1}",
            hint="labels number the classes as the model does, from 0; --skip-unknown leaves images of others out",
        )
    if 0 not in present and unknown == [count]:
        raise DataError(
            f"labels.npy numbers classes from 1 to {count}, and the model from 0 to {count - 1}",
            hint="subtract 1 from the labels",
        )
    fitted = replace(dataset, domains=[_below(domain, count) for domain in dataset.domains], classes=count)
    notes = [f"left out, because the model has {count} classes: images of the labels {listed(list(map(str, unknown)))}"]
    return _fitted(fitted, classes, present - {*unknown}, notes, {"classes": f"below {count}"}, True)


def _fitted(
    dataset: Dataset, classes: ClassNames, present: set[int], notes: list[str], settings: dict[str, str], left_out: bool
) -> Fitted:
    missing = [name for i, name in enumerate(classes.names) if i not in present]
    summary = f"{len(present):,} of the model's {len(classes.names):,}"
    if missing:
        examples = ", ".join(missing[:MOST])
        notes = [
            *notes,
            f"there are no images of {len(missing):,} of the model's {len(classes.names):,} classes: "
            f"{examples}{_and_more(missing)}",
        ]
        summary += f"; without images: {examples}{_and_more(missing)}"
    return Fitted(dataset, notes, summary, settings, left_out)


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - MOST:,} more" if len(names) > MOST else ""


def _only(domain: Domain, names: tuple[str, ...]) -> Domain:
    if not isinstance(domain.images, Files):
        raise TypeError(f"{domain.title} is not of folders")
    return replace(domain, images=Files(domain.images.folder, names))


def _below(domain: Domain, count: int) -> Domain:
    indices = np.flatnonzero(domain.labels < count)
    if not len(indices):
        raise DataError(
            f"{domain.title} has no image of a class of the model", hint="leave it out, or check labels.npy"
        )
    return replace(domain, images=Some(domain.images, indices))
