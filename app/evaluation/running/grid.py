"""The grid of cells to run, and the streams that they share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import EvaluationError
from app.evaluation.specs import Spec
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.stream_files import load_stream, save_stream
from app.evaluation.streams.streams import make_stream
from app.evaluation.types import WALK, Cell, StreamOrder


class StreamName(NamedTuple):
    """The key of a stream in an evaluation."""

    protocol: str
    order: str
    seed: int


Streams = dict[StreamName, StreamOrder]


@dataclass(frozen=True)
class StreamOptions:
    """The streams to make. ``limit`` is the number of images of each domain, None for all.

    ``difficulty`` and ``step_images`` are those of a walk: see `app.evaluation.walks`.
    """

    protocols: tuple[str, ...]
    orders: tuple[str, ...]
    seeds: int
    limit: int | None
    visits: int
    difficulty: str = "medium"
    step_images: int | None = None


def stream_of(cell: Cell) -> StreamName:
    """The stream of a cell."""
    return StreamName(cell.protocol, cell.order, cell.seed)


def make_streams(dataset: Dataset, wishes: StreamOptions) -> Streams:
    """Make a stream for each protocol, order and seed; walks are made with the model: see `walk_streams`.

    Raises:
        EvaluationError: a protocol or an order is unknown, or the data lack what it needs.
    """
    orders = {order.name: order for order in map(parse_order, wishes.orders)}
    return {
        StreamName(protocol, order, seed): make_stream(
            dataset, protocol, orders[order], seed, wishes.limit, wishes.visits
        )
        for protocol in dict.fromkeys(wishes.protocols)
        if protocol != WALK
        for order in orders
        for seed in range(wishes.seeds)
    }


def load_streams(folder: Path, dataset: Dataset) -> Streams:
    """Load all streams of a folder.

    Raises:
        EvaluationError: there are none, one is invalid or of other data, or two have one name.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise EvaluationError(f"{folder} contains no saved stream", hint="give the folder 'streams' of an evaluation")
    streams: Streams = {}
    for file in files:
        stream = load_stream(file, dataset)
        name = StreamName(stream.protocol, stream.order, stream.seed)
        if name in streams:
            raise EvaluationError(f"{folder} contains two streams {_describe(name)}", hint=f"remove {file.name}")
        streams[name] = stream
    return dict(sorted(streams.items()))


def save_streams(folder: Path, dataset: Dataset, streams: Streams) -> Streams:
    """Write the streams that are not in the folder yet; saved ones replace new ones.

    Raises:
        EvaluationError: a saved stream is invalid.
    """
    for name, stream in streams.items():
        file = folder / _file_name(name)
        if not file.exists():
            save_stream(file, stream, dataset)
    return read_streams(folder, dataset, streams)


def has_streams(folder: Path, names: Iterable[StreamName]) -> bool:
    """Return True if all these streams are in the folder."""
    return all((folder / _file_name(name)).exists() for name in names)


def read_streams(folder: Path, dataset: Dataset, names: Iterable[StreamName]) -> Streams:
    """Load these streams of a folder.

    Raises:
        EvaluationError: a stream is missing, invalid or of other data.
    """
    return {name: load_stream(folder / _file_name(name), dataset) for name in dict.fromkeys(names)}


def streams_digest(streams: Mapping[StreamName, StreamOrder]) -> str:
    """Return a short hash of the streams."""
    digest = hashlib.sha256()
    for name, stream in sorted(streams.items()):
        digest.update(repr(tuple(name)).encode())
        for array in (stream.domain, stream.image, stream.segment):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        if stream.blend is not None:
            digest.update(np.ascontiguousarray(stream.blend.second, np.int64).tobytes())
            digest.update(np.ascontiguousarray(stream.blend.weights, np.float32).tobytes())
    return digest.hexdigest()[:16]


def grid(specs: Sequence[Spec], streams: Iterable[StreamName], batches: Sequence[int]) -> list[Cell]:
    """Return the cells of every strategy on every stream in requests of every size."""
    names = list(streams)
    return [
        Cell(spec.text, name.protocol, name.order, batch, name.seed)
        for spec in specs
        for name in names
        for batch in dict.fromkeys(batches)
    ]


def _file_name(name: StreamName) -> str:
    return f"{name.protocol}_{re.sub(r'[^a-z0-9.-]', '-', name.order)}_s{name.seed}.npz"


def _describe(name: StreamName) -> str:
    return f"{name.protocol} {name.order} of seed {name.seed}"
