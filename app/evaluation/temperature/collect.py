"""Temperature of labelled, clean images: opening them, collecting logits, fitting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters import Composite, Strategy, Temperature, as_composite, name_of, params_of
from app.engine import Engine
from app.evaluation.datasets.arrays import array_domains
from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import CLEAN, Domain, Labels
from app.evaluation.datasets.folders import FolderImages, folder_names
from app.evaluation.errors import DataError, EvaluationError
from app.evaluation.labels.classes import match_classes
from app.evaluation.temperature.fit import calibrate
from app.models.labels import ClassNames
from app.temperatures import Calibration
from app.types import Call

WIDE = 16.0
"""The temperature of requests, which is divided out afterwards: at 1 small probabilities of an overconfident network
would round to zero, which has no logarithm."""

_STREAM = "calibration"


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one domain with their labels as the model numbers classes, ``[N]``."""

    images: Domain
    labels: Labels
    notes: list[str] = field(default_factory=list)  # lines for people on the matching of labels


class FittedTemperature(NamedTuple):
    """A temperature, and the accuracy on the images that its metrics are of."""

    calibration: Calibration
    accuracy: float  # in percent


def open_labelled(folder: Path, classes: Sequence[str] | ClassNames, *, skip_unknown: bool = False) -> LabelledImages:
    """Open the clean images of a folder: `clean.npy` with `labels.npy`, ``clean/<class>/*.png`` or ``<class>/*.png``.

    Folders are the model's classes as people write them: see `app.evaluation.labels.matching.match_folders`.

    Raises:
        DataError: there are no images, no labels, or a label is not a class of the model.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="give the folder that holds the images")
    class_names = classes if isinstance(classes, ClassNames) else ClassNames(tuple(classes))
    if any(folder.glob("*.npy")):
        data = _clean_arrays(folder)
    else:
        # With a class of that name there is no folder of clean images: its images would be mistaken for the whole.
        below = folder / CLEAN
        data = _clean_files(below if below.is_dir() and CLEAN not in class_names.names else folder)
    fitted = match_classes(data, class_names, skip_unknown=skip_unknown)
    (images,) = fitted.dataset.domains
    return LabelledImages(images, fitted.dataset.to_model_labels(images.labels), fitted.notes)


def check_temperature_fits(strategy: Strategy) -> None:
    """Check that a temperature can follow this strategy.

    Raises:
        adapters.CombinationError: it cannot.
    """
    _with_temperature(strategy, WIDE)


async def fit(
    engine: Engine,
    data: LabelledImages,
    strategy: Strategy,
    *,
    batch: int,
    limit: int | None = None,
    held_out: float = 0.5,
    progress: Callable[[int], None] = lambda _: None,
) -> FittedTemperature:
    """Predict the images as one new stream, shuffled and ``batch`` at a time, and fit a temperature to the logits.

    ``strategy`` has no temperature in it. Of the ``limit`` images drawn, a share ``held_out`` only measures the fit.
    Calls with the same arguments draw alike. ``progress`` is called with the number of images of each request.

    Raises:
        EvaluationError: ``held_out`` leaves no image on one of the two sides.
        CalibrationError: no temperature fits.
        RenormError, adapters.AdapterError: a request is not answered.
    """
    random = np.random.default_rng(0)
    order = random.permutation(len(data.labels))[:limit]
    is_held_out = random.permutation(len(order)) < round(held_out * len(order))
    if is_held_out.all() or (held_out > 0 and not is_held_out.any()):
        raise EvaluationError(
            f"of {len(order)} images {int(is_held_out.sum())} would be held out, but both sides need at least one",
            hint="give more images, or another held-out share",
        )
    logits, labels = await _answers(engine, data.images, order, strategy, batch, progress), data.labels[order]
    is_measured = is_held_out if is_held_out.any() else ~is_held_out
    right = (logits.argmax(1) == labels)[is_measured]
    return FittedTemperature(calibrate(logits, labels, is_held_out), 100.0 * float(right.mean()))


async def _answers(
    engine: Engine,
    images: Domain,
    order: NDArray[np.int64],
    strategy: Strategy,
    batch: int,
    progress: Callable[[int], None],
) -> NDArray[np.float64]:
    """Return the logits of images in this order, ``[N, K]``, up to a constant in each row."""
    wide = _with_temperature(strategy, WIDE)
    name, params = name_of(wide), params_of(wide)
    logits = []
    for start in range(0, len(order), batch):
        batch_images = images.take(order[start : start + batch])
        answer = await engine.predict(Call(batch_images, _STREAM, name, params, top_k=1, start=start == 0))
        with np.errstate(divide="ignore"):  # a zero is refused where all logits are checked
            logits.append(WIDE * np.log(answer.probabilities.double().numpy()))
        progress(len(answer.probabilities))
    await engine.reset(_STREAM)
    return np.concatenate(logits)


def _with_temperature(strategy: Strategy, temperature: float) -> Composite:
    parts = as_composite(strategy)
    return replace(parts, correctors=(*parts.correctors, Temperature(temperature)))


def _clean_arrays(folder: Path) -> Dataset:
    clean = [domain for domain in array_domains(folder) if domain.name == CLEAN]
    if not clean:
        raise DataError(
            f"{folder} has no {CLEAN}.npy", hint="a temperature is fitted on clean images: give them that name"
        )
    return Dataset(clean, [], int(clean[0].labels.max()) + 1)


def _clean_files(folder: Path) -> Dataset:
    names = folder_names(folder)
    if not names:
        raise DataError(
            f"{folder} has no labels", hint=f"expected {CLEAN}.npy and labels.npy, or a folder of images per class"
        )
    return Dataset([Domain(CLEAN, None, FolderImages(folder, tuple(names)))], [], len(names), tuple(names))
