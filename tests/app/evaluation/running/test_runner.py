"""Cells: the right images in the right order, whatever runs beside them, and failures that stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from app.errors import EngineClosedError, UnanswerableError
from app.evaluation.datasets.data import Dataset
from app.evaluation.errors import EvaluationError
from app.evaluation.running.drivers import EngineDriver
from app.evaluation.running.grid import StreamOptions, Streams, grid, make_streams
from app.evaluation.running.runner import Failure, check_fit, images_of, labels_of, run_cells
from app.evaluation.specs import Spec, parse_specs
from app.evaluation.types import Cell, Result
from tests.app.evaluation.small_data import IMAGES, Scripted, small_dataset
from tests.app.small import small_engine

OPTIONS = StreamOptions(("single", "mixed"), ("iid", "sorted"), seeds=1, limit=None, visits=2)
SPECS = parse_specs(["source,bn,adabn:momentum=0.3,unmix_tns:components=4"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def streams(dataset: Dataset) -> Streams:
    return make_streams(dataset, OPTIONS)


def scripted(
    driver: Scripted, dataset: Dataset, streams: Streams, cells: Sequence[Cell], concurrency: int = 3
) -> tuple[list[Result], list[Failure], list[tuple[Cell, int, int]]]:
    results: list[Result] = []
    calls: list[tuple[Cell, int, int]] = []
    work = run_cells(driver, dataset, streams, cells, results.append, lambda *step: calls.append(step), concurrency)
    return results, asyncio.run(work), calls


def test_a_cell_sends_its_stream_in_order_and_resets_at_each_segment(dataset: Dataset, streams: Streams) -> None:
    driver = Scripted()
    for name, stream in streams.items():
        cell = Cell("bn", name.protocol, name.order, 5, 0)
        (result,), failures, calls = scripted(driver, dataset, streams, [cell])
        names = [f"{cell} {segment}" for segment in sorted(set(stream.segment.tolist()))]
        sent = [[asked for asked in driver.asked if asked[0] == stream_name] for stream_name in names]
        positions = [pair for part in sent for _, _, images in part for pair in images]
        assert positions == list(zip(stream.domain.tolist(), stream.image.tolist(), strict=True))
        starts = [[start for _, start, _ in part] for part in sent]
        assert starts == ([[True, *[False] * 4]] * 2 if name.protocol == "single" else [[True, *[False] * 9]])
        assert failures == []
        assert result.label.tolist() == [image % 4 for _, image in positions] == result.predicted.tolist()
        assert (result.domain == stream.domain).all()
        assert (set(result.confidence), set(result.entropy), set(result.drift)) == ({0.5}, {0.25}, {2.0})
        assert (result.state_bytes, result.cell) == (12, cell)
        assert result.seconds > 0
        assert sum(images for _, images, _ in calls) == len(stream.image) == 2 * IMAGES
        assert sum(wrong for _, _, wrong in calls) == 0
        assert set(driver.resets) >= set(names)


def test_requests_of_several_domains_hold_the_images_of_the_stream(dataset: Dataset, streams: Streams) -> None:
    stream = next(stream for name, stream in streams.items() if name.protocol == "mixed")
    part = slice(7, 19)
    assert len(set(stream.domain[part].tolist())) == 2
    images = images_of(dataset, stream, part)
    assert isinstance(images, torch.Tensor)
    assert images.dtype == torch.uint8
    assert (images[:, 0, 0, 0] - 10).tolist() == stream.domain[part].tolist()
    assert images[:, 0, 0, 1].tolist() == stream.image[part].tolist()
    assert labels_of(dataset, stream)[part].tolist() == [image % 4 for image in stream.image[part].tolist()]


def test_files_of_several_domains_stay_files(dataset: Dataset, streams: Streams) -> None:
    class Files:
        labels = dataset.domains[0].labels

        def __init__(self, name: str) -> None:
            self.name = name

        def take(self, indices: Any) -> list[bytes]:
            return [f"{self.name}{i}".encode() for i in indices]

    stream = next(stream for name, stream in streams.items() if name.protocol == "mixed")
    filed = replace(dataset, domains=[replace(domain, images=Files(domain.name)) for domain in dataset.domains])
    names = [domain.name for domain in dataset.domains]
    expected = [f"{names[d]}{i}".encode() for d, i in zip(stream.domain[:9], stream.image[:9], strict=True)]
    assert images_of(filed, stream, slice(0, 9)) == expected


def engine_results(dataset: Dataset, streams: Streams, cells: Sequence[Cell], concurrency: int) -> dict[Cell, Result]:
    async def run() -> list[Result]:
        driver, results = EngineDriver(small_engine()), list[Result]()
        failures = await run_cells(driver, dataset, streams, cells, results.append, lambda *_: None, concurrency)
        assert failures == []
        assert (await driver.engine.streams()).streams == [], "finished cells take no room"
        await driver.close()
        return results

    return {result.cell: result for result in asyncio.run(run())}


def test_predictions_do_not_depend_on_concurrent_cells(dataset: Dataset, streams: Streams) -> None:
    cells = grid(SPECS, list(streams)[::3], [1, 7])
    sequential, concurrent = (engine_results(dataset, streams, cells, concurrency) for concurrency in (1, 32))
    assert len(sequential) == len(cells) == 4 * 2 * 2
    assert sequential.keys() == concurrent.keys()
    for cell in cells:
        expected, actual = sequential[cell], concurrent[cell]
        assert expected.predicted.tolist() == actual.predicted.tolist()
        np.testing.assert_allclose(expected.confidence, actual.confidence, atol=1e-4)
        np.testing.assert_allclose(expected.drift, actual.drift, atol=1e-3)
        assert expected.state_bytes == actual.state_bytes
    distinct = {sequential[cell].confidence.tobytes() for cell in cells}
    assert len(distinct) > 10, "strategies, orders and sizes do differ"


def test_concurrency_bounds_running_segments(dataset: Dataset, streams: Streams) -> None:
    cells = grid(SPECS, streams, [4, 8])
    for concurrency in (1, 3):
        driver = Scripted()
        results, _, _ = scripted(driver, dataset, streams, cells, concurrency)
        assert len(results) == len(cells)
        assert driver.most <= concurrency
        # Threads read the images, so whether all were ever waiting at one moment is up to them.
        assert (driver.most > 1) == (concurrency > 1)


def test_cells_are_opened_as_there_is_room(dataset: Dataset, streams: Streams) -> None:
    """Each holds arrays as long as its stream: a study of thousands of cells must not hold them all at once."""
    opened, kept = list[int](), list[Result]()

    class Watched(dict[Any, Any]):
        def __getitem__(self, name: Any) -> Any:
            opened.append(len(kept))
            return super().__getitem__(name)

    cells, driver = grid(SPECS, streams, [4, 8]), Scripted()
    work = run_cells(driver, dataset, Watched(streams), cells, kept.append, lambda *_: None, 2)
    assert asyncio.run(work) == []
    assert len(kept) == len(cells) > 4
    assert all(index - done < 2 for index, done in enumerate(opened))


def test_a_cell_that_fails_does_not_stop_the_others(dataset: Dataset, streams: Streams) -> None:
    driver = Scripted({"bn": UnanswerableError("the output is not finite")})
    cells = grid(parse_specs(["source,bn,adabn"]), streams, [4])
    results, failures, _ = scripted(driver, dataset, streams, cells)
    assert {result.cell for result in results} == {cell for cell in cells if cell.strategy != "bn"}
    assert {failure.cell for failure in failures} == {cell for cell in cells if cell.strategy == "bn"}
    assert {failure.reason for failure in failures} == {"the output is not finite"}
    reset = {stream_name.rsplit(" ", 1)[0] for stream_name in driver.resets}
    assert {str(failure.cell) for failure in failures} < reset


def test_a_closed_engine_stops_all_cells_and_finished_ones_stay(dataset: Dataset, streams: Streams) -> None:
    driver, results = Scripted({"adabn": EngineClosedError("gone")}), list[Result]()
    cells = grid(parse_specs(["source,adabn,bn"]), streams, [4])
    with pytest.raises(EngineClosedError, match="gone"):
        asyncio.run(run_cells(driver, dataset, streams, cells, results.append, lambda *_: None, 1))
    assert {result.cell.strategy for result in results} == {"source"}


def test_a_lost_state_is_an_error(dataset: Dataset, streams: Streams) -> None:
    cells = grid([Spec("adabn")], streams, [4])
    with pytest.raises(EvaluationError, match="request 3 was answered as its 1") as error:
        scripted(Scripted(step=lambda step: 1 if step == 3 else step), dataset, streams, cells)
    assert "--together" in error.value.hint

    async def crowded() -> None:
        driver = EngineDriver(small_engine(max_streams=1))
        try:
            await run_cells(driver, dataset, streams, cells, lambda _: None, lambda *_: None, 4)
        finally:
            await driver.close()

    with pytest.raises(EvaluationError, match="was lost"):
        asyncio.run(crowded())


def test_strategies_that_do_not_fit_are_found_before_any_cell(dataset: Dataset) -> None:
    broken = {"bn": UnanswerableError("no")}
    specs = parse_specs(["source,bn"])

    def check(driver: Scripted, specs: list[Spec], *, leave_out: bool) -> Any:
        return asyncio.run(check_fit(driver, dataset, specs, 30, leave_out=leave_out))

    with pytest.raises(EvaluationError, match="'bn' cannot be evaluated: no"):
        check(Scripted(broken), specs, leave_out=False)
    driver = Scripted(broken)
    fitting = check(driver, specs, leave_out=True)
    assert fitting == ([Spec("source")], [(Spec("bn"), "no")])
    assert [len(images) for _, _, images in driver.asked] == [1, 30]
    assert set(driver.steps.values()) == {0}, "nothing was learned"
    with pytest.raises(EvaluationError, match="no strategy can be evaluated: no"):
        check(Scripted(broken), [Spec("bn")], leave_out=True)


def test_too_large_requests_are_found_before_any_cell(dataset: Dataset) -> None:
    async def run() -> None:
        driver = EngineDriver(small_engine(max_images=4))
        try:
            await check_fit(driver, dataset, SPECS, 5, leave_out=False)
        finally:
            await driver.close()

    with pytest.raises(EvaluationError, match=r"requests of 5 images .* at most 4"):
        asyncio.run(run())
