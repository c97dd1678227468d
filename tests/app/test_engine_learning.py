"""Streams that learn: the answer goes out before the lesson, and nobody overtakes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from adapters import AdaptiveModel, Key, Lesson, Memory, Request, strategy
from app.engine import Engine
from app.errors import TooLargeError
from app.models.pixels import Pixels
from app.types import Call
from tests.app.small import PREPROCESSING, core_of, hosted, png, small_engine, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("core_kind")]

LEARNS = "adabn+tent"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Held:
    """Lessons wait until they are let go, and are counted."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        self.lessons: list[list[str]] = []
        self._learn = core_of(engine).model.learn
        monkeypatch.setattr(core_of(engine).model, "learn", self)

    def __call__(self, lessons: Mapping[Key, Lesson], memories: Mapping[Key, Memory]) -> dict[Key, Memory]:
        self.lessons.append([str(key.stream) for key in lessons])
        self.begun.set()
        assert self.gate.wait(10)
        return self._learn(lessons, memories)


async def _until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def test_the_answer_does_not_wait_for_the_lesson_but_the_next_request_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = small_engine()
    held = Held(engine, monkeypatch)
    first = await engine.predict(Call([png(1), png(2)], "a", LEARNS))
    assert first.step == 1
    await _until(held.begun)
    later = asyncio.ensure_future(engine.predict(Call([png(3)], "a", LEARNS)))
    other = asyncio.ensure_future(engine.predict(Call([png(3)], "a", "adabn")))
    await asyncio.sleep(0.05)
    assert not later.done()
    held.gate.set()
    assert (await later).step == 2
    assert (await other).step == 1
    await engine.close()


async def test_streams_that_learn_are_answered_as_the_library_answers_them() -> None:
    calls = [([png(3 * i), png(3 * i + 1)], f"s{i % 3}") for i in range(9)]
    engine = small_engine()
    answers = await asyncio.gather(*(engine.predict(Call(files, name, "rotta", PARAMS)) for files, name in calls))
    model = AdaptiveModel(hosted().network, strategy("rotta", PARAMS), prepare=Pixels(PREPROCESSING))
    for (files, name), answer in zip(calls, answers, strict=True):
        pixels = await engine._decode_stage(files)
        expected = model.predict([Request(pixels, name)])[0]
        torch.testing.assert_close(answer.probabilities, expected.logits.softmax(1), rtol=1e-4, atol=1e-4)
    await engine.close()


PARAMS: dict[str, Any] = {"capacity": 4, "update_every": 3, "rotta.lr": 0.05, "teacher_rate": 0.5}


async def test_a_reset_comes_after_the_lesson_and_is_not_undone_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    held = Held(engine, monkeypatch)
    await engine.predict(Call([png(1), png(2)], "a", LEARNS))
    await _until(held.begun)
    reset = asyncio.ensure_future(engine.reset("a"))
    await asyncio.sleep(0.05)
    assert not reset.done()
    held.gate.set()
    assert await reset == 1
    assert (await engine.streams()).streams == []
    assert (await engine.predict(Call([png(3)], "a", LEARNS))).step == 1
    await engine.close()


async def test_end_of_a_stream_or_no_update_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    held = Held(engine, monkeypatch)
    held.gate.set()
    await engine.predict(Call([png(1), png(2)], "a", LEARNS, update=False))
    await engine.predict(Call([png(1), png(2)], "a", LEARNS, end=True))
    await engine.predict(Call([png(1), png(2)], "b", LEARNS))
    await engine.predict(Call([png(1)], "b", LEARNS))
    await engine.reset()
    assert [name for names in held.lessons for name in names] == ["b", "b"]
    await engine.close()


async def test_a_stream_that_had_to_leave_during_its_lesson_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = small_engine(max_streams=1)
    held = Held(engine, monkeypatch)
    await engine.predict(Call([png(1), png(2)], "a", LEARNS))
    await _until(held.begun)
    table = core_of(engine).table
    key = next(iter(table._records))
    table.commit(Key("b", strategy("adabn")), table.memories({key})[key]._replace(parts=()))
    held.gate.set()
    # The next request of that stream waits for the lesson.
    await engine.predict(Call([png(1)], "a", LEARNS, update=False))
    assert [info.stream for info in (await engine.streams()).streams] == ["b"]
    await engine.close()


async def test_a_lesson_that_fails_is_told_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, calm = small_engine(), small_engine()

    def fail(*_: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(core_of(engine).model, "learn", fail)
    for i in range(3):
        answer = await engine.predict(Call([png(i), png(9)], "a", LEARNS))
        expected = await calm.predict(Call([png(i), png(9)], "a", "adabn"))
        assert (answer.step, answer.updated) == (i + 1, True)
        assert torch.equal(answer.probabilities, expected.probabilities)
    assert "could not learn from their last requests" in caplog.text
    await engine.close()
    await calm.close()


async def test_neither_streams_that_learn_nor_the_others_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forwards and lessons take turns: between two forwards there is one lesson at most, and the other way round."""
    engine = small_engine()
    held = Held(engine, monkeypatch)
    held.gate.set()
    order: list[str] = []
    run, learn = core_of(engine).model.run, core_of(engine).model.learn

    def told(what: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any) -> Any:
            order.append(what)
            return work(*given)

        return wrapped

    monkeypatch.setattr(core_of(engine).model, "run", told("forward", run))
    monkeypatch.setattr(core_of(engine).model, "learn", told("lesson", learn))
    learning = [engine.predict(Call([png(i), png(i + 1)], "a", LEARNS)) for i in range(5)]
    others = [engine.predict(Call([png(i)], f"b{i}", "adabn")) for i in range(5)]
    await asyncio.gather(*learning, *others)
    assert "lesson lesson" not in " ".join(order)
    assert order.count("lesson") >= 4
    await engine.close()


def warmed(**settings: Any) -> Engine:
    engine = small_engine(**settings)
    core_of(engine).warm_up()
    return engine


async def test_memory_of_a_lesson_is_reported_during_the_lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = warmed(max_memory_bytes=80_000_000)
    each = core_of(engine).model.lessons.per_image
    assert each > 2 * 8 * 6 * 6 * 4
    held = Held(engine, monkeypatch)
    await engine.predict(Call([png(1), png(2)], "a", LEARNS))
    await _until(held.begun)
    parts = {part.kind: part for part in await engine.memory()}
    assert (parts["lessons"].held, parts["lessons"].capacity) == (2 * each, 10_000_000)
    assert set(parts) == {"decoded", "decoding", "lessons"}
    held.gate.set()
    await engine.predict(Call([png(1)], "a", LEARNS, update=False))
    await until(lambda: engine._budget.lent == 0)
    assert [part.held for part in await engine.memory()] == [0, 0, 0]
    await engine.close()


async def bytes_per_image() -> int:
    engine = warmed()
    await engine.close()
    return core_of(engine).model.lessons.per_image


async def test_a_lesson_that_could_never_fit_is_refused_and_nothing_moves() -> None:
    each = await bytes_per_image()
    engine = warmed(max_lesson_bytes=2 * each)
    with pytest.raises(TooLargeError, match=f"3 images at once needs {3 * each} bytes") as refusal:
        await engine.predict(Call([png(1)] * 3, "a", LEARNS))
    assert "at most 2 images" in refusal.value.hint
    with pytest.raises(TooLargeError, match="64 images at once") as refusal:
        await engine.predict(Call([png(1)], "a", "rotta"))
    assert refusal.value.location == "params"
    assert (await engine.streams()).streams == []
    answers = [
        await engine.predict(Call([png(1)] * 2, "a", LEARNS)),
        await engine.predict(Call([png(1)] * 3, "a", LEARNS, update=False)),
        await engine.predict(Call([png(1)] * 3, "a", "adabn")),
        await engine.predict(Call([png(1)] * 3, "a", "rotta", {"capacity": 2})),
    ]
    assert len(answers) == 4
    await engine.close()


async def test_lessons_of_many_streams_share_no_more_than_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    each = await bytes_per_image()
    engine = warmed(max_memory_bytes=8 * 5 * each)
    most: list[int] = []
    network = core_of(engine).model._hosted.network
    forward = network.forward

    def watched(images: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            most.append(len(images))
        result: torch.Tensor = forward(images)
        return result

    held = Held(engine, monkeypatch)
    monkeypatch.setattr(network, "forward", watched)
    await engine.predict(Call([png(1)], "first", LEARNS))
    await _until(held.begun)
    calls = [asyncio.ensure_future(engine.predict(Call([png(i), png(i + 1)], f"s{i}", LEARNS))) for i in range(8)]
    await asyncio.sleep(0.05)
    held.gate.set()
    await asyncio.gather(*calls)
    await asyncio.gather(*(engine.predict(Call([png(1)], f"s{i}", LEARNS, update=False)) for i in range(8)))
    assert sum(most) == 17
    assert max(most) <= 4
    await engine.close()
