"""Files that keep a stream, so that it can be shown again elsewhere, and years later."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.datasets.data import Dataset, fingerprint
from app.evaluation.errors import StreamFileError
from app.evaluation.types import PROTOCOLS, Stream

_SCALARS = {"protocol": "U", "order": "U", "seed": "iu", "data": "U"}
_LISTS = ("domain", "image", "segment")
# What numpy raises for a file that is no archive, one that is cut off, or one with other entries.
_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def save_stream(path: Path, stream: Stream, dataset: Dataset) -> None:
    """Write the stream as ``.npz``, with a fingerprint of the domains that it shows; a file is there whole or not."""
    held = {name: np.array(getattr(stream, name)) for name in ("protocol", "order", "seed", *_LISTS)}
    held["data"] = np.array(fingerprint(dataset, np.unique(stream.domain).tolist()))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **held)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_stream(path: Path, dataset: Dataset) -> Stream:
    """Read what `save_stream` wrote.

    Raises:
        StreamFileError: it cannot be read, is not a stream, or was made for other data.
    """
    try:
        # Opened here, because numpy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            held: dict[str, NDArray[Any]] = {name: file[name] for name in (*_SCALARS, *_LISTS)}
    except _BROKEN as error:
        raise StreamFileError(f"{path} is not a stream: {error}", hint="make it again, or leave it out") from error
    if why := _not_a_stream(held):
        raise StreamFileError(f"{path} is not a stream: {why}", hint="make it again, or leave it out")
    stream = Stream(
        protocol=str(held["protocol"]),
        order=str(held["order"]),
        seed=int(held["seed"]),
        domain=held["domain"].astype(np.int32),
        image=held["image"].astype(np.int64),
        segment=held["segment"].astype(np.int32),
    )
    if why := _other_data(stream, dataset, str(held["data"])):
        raise StreamFileError(f"{path} belongs to other data: {why}", hint="give the data that it was made for")
    return stream


def _not_a_stream(held: dict[str, NDArray[Any]]) -> str:
    """Why not, or nothing."""
    for name, kinds in _SCALARS.items():
        if held[name].shape != () or held[name].dtype.kind not in kinds:
            return f"its {name} is {held[name].dtype} {list(held[name].shape)}"
    for name in _LISTS:
        if held[name].dtype.kind != "i" or held[name].ndim != 1:
            return f"its {name} is {held[name].dtype} {list(held[name].shape)}, not integers [T]"
    lengths = {name: len(held[name]) for name in _LISTS}
    if len({*lengths.values()}) > 1 or not lengths["image"]:
        return f"its lists are of the lengths {lengths}"
    if (held["segment"][1:] < held["segment"][:-1]).any():
        return "its segments fall"
    return "" if str(held["protocol"]) in PROTOCOLS else f"{held['protocol']} is no protocol"


def _other_data(stream: Stream, dataset: Dataset, expected: str) -> str:
    """Why it does, or nothing."""
    if why := _outside(stream.domain, len(dataset.domains), "domain"):
        return why
    shown = np.unique(stream.domain).tolist()
    for number in shown:
        domain = dataset.domains[number]
        if why := _outside(stream.image[stream.domain == number], len(domain.labels), f"image of {domain.title}"):
            return why
    return "" if fingerprint(dataset, shown) == expected else "names, labels or images are not the same"


def _outside(numbers: NDArray[np.signedinteger], end: int, what: str) -> str:
    wrong = numbers[(numbers < 0) | (numbers >= end)]
    return f"it shows {what} number {wrong[0]}, and there are {end}" if len(wrong) else ""
