"""Stream files, with which the same order of images can be replayed elsewhere and years later."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.datasets.data import Dataset, fingerprint
from app.evaluation.errors import DataError, StreamFileError
from app.evaluation.types import PROTOCOLS, WALK, Blend, StreamOrder
from app.evaluation.walks.blends import check_blendable, clean_domain

_SCALARS = {"protocol": "U", "order": "U", "seed": "iu", "data": "U"}
_LISTS = ("domain", "image", "segment")
_BLEND = ("second", "weights")  # only in the files of walks
# Raised by numpy for a file that is not an archive, is truncated, or has other entries.
_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def save_stream(path: Path, stream: StreamOrder, dataset: Dataset) -> None:
    """Write the stream as ``.npz``, with a fingerprint of its domains; the write is atomic."""
    arrays = {name: np.array(getattr(stream, name)) for name in ("protocol", "order", "seed", *_LISTS)}
    if stream.blend is not None:
        arrays |= {name: getattr(stream.blend, name) for name in _BLEND}
    arrays["data"] = np.array(fingerprint(dataset, _numbers(stream, dataset)))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_stream(path: Path, dataset: Dataset) -> StreamOrder:
    """Load a stream that `save_stream` wrote.

    Raises:
        StreamFileError: the file cannot be read, is not a stream, or belongs to other data.
    """
    try:
        # Opened here, because numpy does not close a file that is not an archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names = (*_SCALARS, *_LISTS, *(_BLEND if _BLEND[0] in file else ()))
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in names}
    except _BROKEN as error:
        raise StreamFileError(f"{path} is not a saved stream: {error}", hint="create it again or remove it") from error
    if problem := _not_a_stream(arrays):
        raise StreamFileError(f"{path} is not a saved stream: {problem}", hint="create it again or remove it")
    stream = StreamOrder(
        protocol=str(arrays["protocol"]),
        order=str(arrays["order"]),
        seed=int(arrays["seed"]),
        domain=arrays["domain"].astype(np.int32),
        image=arrays["image"].astype(np.int64),
        segment=arrays["segment"].astype(np.int32),
        blend=Blend(*(arrays[name] for name in _BLEND)) if _BLEND[0] in arrays else None,
    )
    if problem := _other_data(stream, dataset, str(arrays["data"])):
        raise StreamFileError(f"{path} belongs to other data: {problem}", hint="use the data that it was made for")
    return stream


def _not_a_stream(arrays: dict[str, NDArray[Any]]) -> str:
    """Return the problem with the arrays, or an empty text."""
    for name, kinds in _SCALARS.items():
        if arrays[name].shape != () or arrays[name].dtype.kind not in kinds:
            return f"its {name} is {arrays[name].dtype} {list(arrays[name].shape)}"
    lists = [*_LISTS, *_BLEND[: _BLEND[0] in arrays]]
    for name in lists:
        if arrays[name].dtype.kind != "i" or arrays[name].ndim != 1:
            return f"its {name} is {arrays[name].dtype} {list(arrays[name].shape)}, not integers [T]"
    lengths = {name: len(arrays[name]) for name in lists}
    if len({*lengths.values()}) > 1 or not lengths["image"]:
        return f"its arrays differ in length: {lengths}"
    if (arrays["segment"][1:] < arrays["segment"][:-1]).any():
        return "its segments are not in rising order"
    if str(arrays["protocol"]) not in (*PROTOCOLS, WALK):
        return f"{arrays['protocol']} is not a protocol"
    return _not_weights(arrays["weights"], lengths["image"]) if _BLEND[0] in arrays else ""


def _not_weights(weights: NDArray[Any], images: int) -> str:
    if weights.dtype.kind != "f" or weights.shape != (images, 2):
        return f"its weights are {weights.dtype} {list(weights.shape)}, not numbers [T, 2]"
    return "" if ((weights >= 0) & (weights <= 1)).all() else "its weights are not between 0 and 1"


def _numbers(stream: StreamOrder, dataset: Dataset) -> list[int]:
    """The domains that a stream needs."""
    if stream.blend is None:
        return [int(number) for number in np.unique(stream.domain)]
    domains = np.union1d(stream.domain, stream.blend.second)
    return [*(int(number) for number in domains), dataset.find(clean_domain(dataset).name)]


def _other_data(stream: StreamOrder, dataset: Dataset, expected: str) -> str:
    """Return the mismatch of a stream with the data, or an empty text."""
    if problem := _outside(stream.domain, len(dataset.domains), "domain"):
        return problem
    if stream.blend is not None:
        if problem := _outside(stream.blend.second, len(dataset.domains), "domain"):
            return problem
        try:
            check_blendable(dataset, np.union1d(stream.domain, stream.blend.second).tolist())
        except DataError as error:
            return error.message
    for number in np.unique(stream.domain).tolist():
        domain = dataset.domains[number]
        if problem := _outside(stream.image[stream.domain == number], len(domain.labels), f"image of {domain.title}"):
            return problem
    numbers = _numbers(stream, dataset)
    return "" if fingerprint(dataset, numbers) == expected else "names, labels or images differ"


def _outside(numbers: NDArray[np.signedinteger], end: int, kind: str) -> str:
    wrong = numbers[(numbers < 0) | (numbers >= end)]
    return f"it contains {kind} number {wrong[0]}, but there are {end}" if len(wrong) else ""
