"""Labelled images under shift, as benchmarks publish them: arrays laid out as CIFAR-10-C, or folders as ImageNet-C."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.evaluation.datasets.arrays import array_domains
from app.evaluation.datasets.domains import CLEAN, SEVERITIES, Domain, Labels
from app.evaluation.datasets.folders import folder_domains
from app.evaluation.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images, labels and classes to evaluate on.

    ``domains`` are all that exist, at every severity, whichever severity was chosen: a `Stream` indexes them.
    ``shifted`` are the indices of those that protocols show: one for each corruption, in published order.
    """

    domains: list[Domain]
    shifted: list[int]
    classes: int
    names: tuple[str, ...] = ()  # of the classes, where folders give them
    numbers: tuple[int, ...] | None = None  # the model's, of these classes; None: they are those of the data

    def to_model_labels(self, labels: Labels) -> Labels:
        """Labels of these data as the model numbers its classes, ``[N]``."""
        return labels if self.numbers is None else np.array(self.numbers, np.int64)[labels]

    @property
    def clean(self) -> Domain | None:
        """The images without corruption."""
        return next((domain for domain in self.domains if domain.name == CLEAN), None)

    @property
    def has_all_severities(self) -> bool:
        """True if every corruption has all five severities, as `gradual` needs."""
        severities = [[d.severity for d in self.domains if d.name == name] for name in self.corruptions]
        return bool(severities) and all(levels == list(SEVERITIES) for levels in severities)

    @property
    def corruptions(self) -> list[str]:
        """Their names, in published order."""
        return [self.domains[number].name for number in self.shifted]

    def select(self, corruptions: Sequence[str]) -> Dataset:
        """The same data with only these corruptions shown, in published order; an empty list shows all.

        Raises:
            DataError: a corruption does not exist.
        """
        unknown = sorted(set(corruptions) - set(self.corruptions))
        if unknown:
            raise DataError(f"the data have no {unknown[0]}", hint=f"choose from {', '.join(self.corruptions)}")
        numbers = [number for number in self.shifted if not corruptions or self.domains[number].name in corruptions]
        return replace(self, shifted=numbers)

    def find(self, name: str, severity: int | None = None) -> int:
        """The number of a domain.

        Raises:
            DataError: there is no such domain.
        """
        for number, domain in enumerate(self.domains):
            if (domain.name, domain.severity) == (name, severity):
                return number
        level = "" if severity is None else f" at severity {severity}"
        raise DataError(f"the data have no {name}{level}", hint=f"they have {', '.join(d.title for d in self.domains)}")


def open_data(path: Path, severity: int = 5) -> Dataset:
    """Open the domains of a folder; images are read on use, and image files listed when labels are needed.

    Supported are arrays (``<corruption>.npy`` uint8 ``[N, H, W, 3]`` and `labels.npy`, one severity or blocks of five)
    and image files (``<domain>/<class>/...``, or ``<corruption>/<severity>/<class>/...``). A domain named `clean` holds
    the images without corruption. ``severity`` chooses among severities where there are several.

    Raises:
        DataError: there are no data, the layout is another one, or this severity is missing.
    """
    if severity not in SEVERITIES:
        raise DataError(f"severity {severity} does not exist", hint="choose 1 to 5")
    if not path.is_dir():
        raise DataError(f"{path} is not a folder", hint="give the folder of the data")
    if any(path.glob("*.npy")):
        domains = array_domains(path)
        names: tuple[str, ...] = ()
        classes = max(int(domain.labels.max()) for domain in domains) + 1
    else:
        domains, names = folder_domains(path)
        classes = len(names)
    return Dataset(domains, _shifted(domains, severity), classes, names)


def fingerprint(dataset: Dataset, numbers: Iterable[int]) -> str:
    """A hash of these domains that changes with their names, labels, and first and last image."""
    digest = hashlib.sha256()
    for domain in (dataset.domains[number] for number in numbers):
        digest.update(f"{domain.title}\0{len(domain.labels)}\0".encode())
        digest.update(domain.labels.astype("<i8").tobytes())
        ends = domain.take(np.array([0, len(domain.labels) - 1], np.int64))
        for image in ends if isinstance(ends, list) else [ends.numpy().tobytes()]:
            digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()


def _shifted(domains: list[Domain], severity: int) -> list[int]:
    """The numbers of the corruptions at this severity; one without severities counts as severity 5, the default."""
    chosen: dict[str, int] = {}
    for number, domain in enumerate(domains):
        if domain.severity in (None, severity) and domain.name != CLEAN:
            chosen[domain.name] = number
    has_severities = any(domain.severity is not None for domain in domains)
    if not has_severities and chosen and severity != SEVERITIES[-1]:
        hint = "leave out the severity, or use the public files with their five blocks of rows"
        raise DataError(f"severity {severity} is not available: these data have no severities", hint=hint)
    for domain in domains:
        if domain.name not in chosen and domain.name != CLEAN:
            available = ", ".join(str(sibling.severity) for sibling in domains if sibling.name == domain.name)
            raise DataError(f"{domain.name} has no severity {severity}", hint=f"it has {available}")
    return list(chosen.values())
