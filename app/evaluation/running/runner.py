"""Runs cells: the requests of each segment strictly in order, many segments concurrently as streams of one engine."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters import AdapterError
from app.client import Refused
from app.errors import RequestError, UnanswerableError
from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import EvaluationError
from app.evaluation.running.drivers import Driver, Images, Predictions
from app.evaluation.running.grid import StreamName, stream_of
from app.evaluation.specs import Spec, parse_specs
from app.evaluation.streams.streams import split_requests
from app.evaluation.types import Cell, Result, StreamOrder
from app.evaluation.walks.blends import blend_images

ProgressCallback = Callable[[Cell, int, int], None]
"""Called after each request with its cell, its number of images and its number of wrong predictions."""

CELL_ERRORS = (UnanswerableError, RequestError, AdapterError, Refused)
"""Errors that fail one cell while the others continue."""

_CHECK = "check"


class Failure(NamedTuple):
    """A cell without a result, and the reason."""

    cell: Cell
    reason: str


async def run_cells(
    driver: Driver,
    dataset: Dataset,
    streams: Mapping[StreamName, StreamOrder],
    cells: Iterable[Cell],
    keep: Callable[[Result], None],
    progress: ProgressCallback,
    concurrency: int,
) -> list[Failure]:
    """Run all cells, ``concurrency`` segments at a time, and ``keep`` each cell as soon as it is finished.

    Predictions of a segment do not depend on concurrent ones. Small requests go first: they take longest. Segments of
    one cell go together: they have the same strategy, whose steps for several streams are taken at once.

    Returns:
        The cells that failed: a strategy whose output is not finite, or that does not fit the model.

    Raises:
        EvaluationError: a stream's state was lost.
        RenormError, RenormClientError: the engine or the server does not answer; no further cell starts.
    """
    # A cell in progress holds its predictions, so no more are opened than can fill the room.
    places, room, failures = asyncio.Semaphore(concurrency), asyncio.Semaphore(concurrency), list[Failure]()

    async def run(cell: Cell) -> None:
        async with places:
            try:
                keep(await run_cell(driver, dataset, streams[stream_of(cell)], cell, progress, room))
            except CELL_ERRORS as error:
                failures.append(Failure(cell, str(error)))

    try:
        async with asyncio.TaskGroup() as group:
            for cell in sorted(cells, key=lambda cell: cell.batch):
                group.create_task(run(cell))
    except BaseExceptionGroup as errors:
        # The first: the others failed because of it, or for the same reason.
        raise _first(errors) from errors
    return failures


async def run_cell(
    driver: Driver,
    dataset: Dataset,
    stream: StreamOrder,
    cell: Cell,
    progress: ProgressCallback,
    room: asyncio.Semaphore,
) -> Result:
    """Run one cell, each segment as a new stream while there is ``room``.

    ``seconds`` of the result are those from the first request to the last, with all that ran beside them.

    Raises:
        EvaluationError: a stream's state was lost, so the predictions are not those of this strategy.
        RenormError, AdapterError, RenormClientError: a request was not answered.
    """
    run, labels = _Run.of(len(stream.image)), labels_of(dataset, stream)

    async def run_segment(name: str, parts: Sequence[slice]) -> _SegmentEnd:
        async with room:
            try:
                return await _run_segment(driver, dataset, stream, cell, name, parts, run, progress)
            finally:
                await driver.reset(name)

    cuts = groupby(split_requests(stream, cell.batch), lambda part: int(stream.segment[part.start]))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_segment(f"{cell} {segment}", list(parts))) for segment, parts in cuts]
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors
    began, ended, state_bytes = zip(*(task.result() for task in tasks), strict=True)
    seconds = max(ended) - min(began)
    return Result(cell, stream.domain, labels, *run, seconds=seconds, state_bytes=max(state_bytes))


async def _run_segment(
    driver: Driver,
    dataset: Dataset,
    stream: StreamOrder,
    cell: Cell,
    name: str,
    parts: Sequence[slice],
    run: _Run,
    progress: ProgressCallback,
) -> _SegmentEnd:
    (spec,) = parse_specs([cell.strategy])
    began, labels = time.perf_counter(), labels_of(dataset, stream)
    for step, part in enumerate(parts, 1):
        images = await asyncio.to_thread(images_of, dataset, stream, part)
        answers = await driver.predict(images, name, spec.strategy, spec.params, start=step == 1)
        _check_step(answers, step, cell)
        run.write(part, answers)
        progress(cell, len(answers.predicted), int((answers.predicted != labels[part]).sum()))
    return _SegmentEnd(began, time.perf_counter(), await driver.state_bytes(name))


class Fitting(NamedTuple):
    """Strategies that fit the model, and others with the reason."""

    specs: list[Spec]
    left_out: list[tuple[Spec, str]]


async def check_fit(
    driver: Driver, dataset: Dataset, specs: Sequence[Spec], max_images: int, *, leave_out: bool
) -> Fitting:
    """Predict once with each strategy, without learning, and once with a request of ``max_images`` images.

    Raises:
        EvaluationError: a strategy does not fit the model, and ``leave_out`` is false; or none fits, or requests of
            ``max_images`` images are not answered.
        RenormError, RenormClientError: the engine or the server does not answer.
    """
    domain, fitting = dataset.domains[0], Fitting([], [])
    for spec in specs:
        reason = await _problem(driver, domain.take(np.zeros(1, np.int64)), spec)
        if not reason:
            fitting.specs.append(spec)
        elif leave_out:
            fitting.left_out.append((spec, reason))
        else:
            raise EvaluationError(f"strategy '{spec.text}' cannot be evaluated: {reason}")
    if not fitting.specs:
        raise EvaluationError(f"no strategy can be evaluated: {fitting.left_out[0][1]}")
    reason = await _problem(driver, domain.take(np.resize(np.arange(len(domain.labels)), max_images)), fitting.specs[0])
    if reason:
        raise EvaluationError(f"requests of {max_images} images cannot be evaluated: {reason}")
    await driver.reset(_CHECK)
    return fitting


async def _problem(driver: Driver, images: Images, spec: Spec) -> str:
    """Return the error of a request; empty where it succeeds."""
    try:
        await driver.predict(images, _CHECK, spec.strategy, spec.params, start=True, update=False)
    except CELL_ERRORS as error:
        return str(error)
    return ""


def images_of(dataset: Dataset, stream: StreamOrder, part: slice) -> Images:
    """Return the images of one request in the order of the stream, of one or several domains, or blends of domains."""
    if stream.blend is not None:
        return blend_images(dataset, stream.domain[part], stream.image[part], stream.blend, part)
    domains, places = stream.domain[part], stream.image[part]
    present = np.unique(domains)
    if len(present) == 1:
        return dataset.domains[int(present[0])].take(places)
    images: list[Tensor | bytes] = [b""] * len(places)
    for domain in present:
        location = np.flatnonzero(domains == domain)
        for place, image in zip(location, dataset.domains[int(domain)].take(places[location]), strict=True):
            images[place] = image
    tensors = [image for image in images if isinstance(image, Tensor)]
    return torch.stack(tensors) if tensors else [image for image in images if isinstance(image, bytes)]


def labels_of(dataset: Dataset, stream: StreamOrder) -> NDArray[np.int64]:
    """Return the class of each image of a stream, as the model numbers it."""
    labels = np.empty(len(stream.image), np.int64)
    for domain in np.unique(stream.domain):
        location = stream.domain == domain
        labels[location] = np.asarray(dataset.domains[int(domain)].labels)[stream.image[location]]
    return dataset.to_model_labels(labels)


class _SegmentEnd(NamedTuple):
    """The times of a segment's first request and last answer, and the size of its state."""

    began: float
    ended: float
    state_bytes: int


class _Run(NamedTuple):
    """The predictions of requests, image by image; in the order of `Result`."""

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    drift: NDArray[np.float32]

    @classmethod
    def of(cls, images: int) -> _Run:
        unknown = (np.full(images, math.nan, np.float32) for _ in range(3))
        return cls(np.full(images, -1, np.int64), *unknown)

    def write(self, part: slice, answers: Predictions) -> None:
        self.predicted[part], self.confidence[part] = answers.predicted, answers.confidence
        self.entropy[part], self.drift[part] = answers.entropy, answers.drift


def _check_step(answers: Predictions, step: int, cell: Cell) -> None:
    if answers.step != step:
        raise EvaluationError(
            f"the state of a stream with '{cell.strategy}' was lost: its request {step} was answered as its "
            f"{answers.step}.",
            hint="run fewer cells --together, or raise RENORM_MAX_STATE_BYTES and RENORM_MAX_STREAMS",
        )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
