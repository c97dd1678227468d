"""Random storms against one engine: whatever is sent, called off and reset, nothing is lost, held or out of order."""

from __future__ import annotations

import asyncio
import io
import random
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from app.engine import Engine
from app.errors import BusyError, DeadlineError, ImageError
from app.serving.processes.link import Message
from app.serving.tickets import Barrier, Ticket
from app.types import Call, Prediction
from tests.app.linked import LinkedCore
from tests.app.small import core_of, png, same, small_engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("core_kind")]
OPERATIONS, STREAMS, CLIENTS = 160, 5, 3
STRATEGIES = ["adabn", "bn", "unmix_tns", "tent"]
SENT: ContextVar[Operation | None] = ContextVar("SENT")

LIMITS: dict[str, dict[str, Any]] = {
    "usual": {},
    "one_image_waits": {"max_waiting_bytes": 1},
    "little_memory": {"max_memory_bytes": 8000, "max_lesson_bytes": 10_000_000},
    "one_image_a_forward": {"max_forward_images": 1},
    "few_places": {"max_waiting": 12, "max_waiting_per_stream": 4},
    "hurried": {"max_forward_images": 3, "max_waiting_bytes": 500, "timeout": 0.05},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(eq=False)
class Operation:
    """A call or a reset, and after how many seconds it is called off."""

    call: Call | None = None
    stream: str | None = None
    strategy: str | None = None
    patience_s: float | None = None
    answer: Any = None


@dataclass(eq=False)
class Queue(dict[Any, None]):
    """The batcher's queue, which notes what came in which order."""

    order: list[tuple[Operation, Ticket | Barrier]] = field(default_factory=list)

    def __setitem__(self, place: Ticket | Barrier, value: None) -> None:
        if (one := SENT.get(None)) is not None:
            self.order.append((one, place))
        super().__setitem__(place, value)


def tiff(seed: int) -> bytes:
    """An image that goes to a process."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "TIFF")
    return buffer.getvalue()


def images_of(chance: random.Random) -> Any:
    kind, count = chance.random(), chance.choice([1, 1, 1, 2, 5])
    seeds = [chance.randrange(1000) for _ in range(count)]
    if kind < 0.05:
        return [png(1), b"no image"]
    if kind < 0.1:
        return [png(seeds[0]), tiff(seeds[0])]
    if kind < 0.25:
        generator = torch.Generator().manual_seed(seeds[0])
        pixels = torch.randint(0, 256, (count, 8, 8, 3), generator=generator, dtype=torch.uint8)
        return pixels if kind < 0.18 else (pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    return [png(seed) for seed in seeds]


def operation(chance: random.Random, before: list[Operation]) -> Operation:
    patience_s = chance.choice([None, None, None, 0.0, 0.0005, 0.002, 0.01])
    stream, strategy = f"s{chance.randrange(STREAMS)}", chance.choice(STRATEGIES)
    kind = chance.random()
    if kind < 0.08:
        return Operation(None, chance.choice([None, stream]), chance.choice([None, strategy]), patience_s)
    named = [one for one in before if one.call is not None and one.call.request_id is not None]
    if kind < 0.15 and named:
        return Operation(chance.choice(named[-5:]).call, patience_s=patience_s)
    call = Call(
        images_of(chance),
        stream,
        strategy,
        update=chance.random() < 0.8,
        start=chance.random() < 0.06,
        end=chance.random() < 0.06,
        client=f"c{chance.randrange(CLIENTS)}",
        request_id=str(len(before)) if chance.random() < 0.3 else None,
        timeout_s=chance.choice([None, None, None, 1e-9, 0.001, 0.02]),
    )
    return Operation(call, patience_s=patience_s)


async def perform(engine: Engine, one: Operation) -> None:
    SENT.set(one)
    work = engine.reset(one.stream, one.strategy) if one.call is None else engine.predict(one.call)
    try:
        async with asyncio.timeout(one.patience_s):
            one.answer = await work
    except TimeoutError as error:
        one.answer = error
    except (BusyError, DeadlineError, ImageError) as error:
        one.answer = error


def carry_context(core: LinkedCore) -> None:
    """Let messages carry what was sent, as calls within a process do."""
    (remote,), send, operations = core.cores, core.cores[0]._send, dict[int, Operation | None]()

    def sending(kind: str, number: int, *parts: Any) -> None:
        operations.setdefault(number, SENT.get(None))
        send(kind, number, *parts)

    def receiving(message: Message) -> None:
        SENT.set(operations[message[1]])

    remote._send = sending  # type: ignore[method-assign]
    core.launcher.before = receiving


async def storm(engine: Engine, chance: random.Random) -> tuple[list[Operation], Queue, set[Barrier]]:
    """Everything sent at about the same time, some of it called off; what was sent, its order, and resets that were."""
    queue, applied, apply = Queue(), set[Barrier](), core_of(engine).batcher._apply

    def noting(barrier: Barrier) -> None:
        if not barrier.answer.done():
            applied.add(barrier)
        apply(barrier)

    if isinstance(engine.core, LinkedCore):
        carry_context(engine.core)
    core_of(engine).batcher._queue, core_of(engine).batcher._apply = queue, noting  # type: ignore[method-assign]
    sent: list[Operation] = []
    tasks: list[asyncio.Task[None]] = []
    for _ in range(OPERATIONS):
        sent.append(operation(chance, sent))
        tasks.append(asyncio.ensure_future(perform(engine, sent[-1])))
        for _ in range(chance.choice([0, 0, 0, 1, 3, 20])):
            await asyncio.sleep(0)
        if chance.random() < 0.05:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)
    return sent, queue, applied


async def settle(engine: Engine) -> dict[str, int]:
    """What is still held once all that was called off has had the time to end: what leaked stays for ever."""
    for _ in range(10_000):
        left = {name: count for name, count in held(engine).items() if count}
        if core_of(engine).batcher._running is None and not left:
            break
        await asyncio.sleep(0.001)
    return left


def held(engine: Engine) -> dict[str, int]:
    """All that is to be nothing while nobody asks for anything."""
    batcher, decoders = core_of(engine).batcher, engine._decode_stage
    budgets = {
        "decoded": engine._budget,
        "turns": decoders._turns,
        "processes": decoders._processes._turns,
        "decoding": decoders._processes.memory,
    }
    shares = {"forwards": batcher._shares} | {name: budget._shares for name, budget in budgets.items()}
    return (
        {f"waiting of {name}": len(budget) for name, budget in budgets.items()}
        | {f"lent of {name}": budget.lent for name, budget in budgets.items()}
        | {
            f"streams of {name}": len(one._waiting) + len(one._client) + len(one._streams)
            for name, one in shares.items()
        }
        | {f"clients of {name}": len(one._clients.usage) + len(one._clients._debts) for name, one in shares.items()}
        | {
            "queue": len(batcher),
            "requests": batcher._places._requests.total() + len(batcher._places._requests),
            "images": batcher._places._images.total() + len(batcher._places._images),
            "of clients": len(batcher._places._of_client),
            "lessons": len(batcher._lessons) + core_of(engine).forward_stage.lesson_bytes,
            "unanswered names": sum(not entry.answer.done() for entry in core_of(engine).replays._entries.values()),
            "decoding threads": len(decoders._started_at),
        }
    )


async def replayed(queue: Queue, applied: set[Barrier]) -> tuple[Engine, dict[Ticket, Prediction]]:
    """The same, one after another in an engine that does nothing else."""
    quiet = small_engine(max_lesson_bytes=10_000_000)
    answers: dict[Ticket, Prediction] = {}
    for one, place in queue.order:
        if isinstance(place, Barrier):
            if place in applied:
                await quiet.reset(place.scope.stream, place.scope.strategy)
        elif place.is_started and one.call is not None:
            call = Call(**{**vars(one.call), "request_id": None, "timeout_s": None})
            answers[place] = await quiet.predict(call)
    return quiet, answers


def agree(mine: Prediction, other: Prediction) -> bool:
    """Whether both are the same answer; lessons learned together round differently, which each of them enlarges."""
    if mine.strategy != "tent":
        return same(mine, other)
    close = torch.allclose(mine.probabilities, other.probabilities, rtol=0, atol=1e-4)
    return close and (mine.step, mine.updated) == (other.step, other.updated)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
async def test_a_storm_leaves_nothing_behind_and_every_stream_in_order(limits: dict[str, Any]) -> None:
    engine = small_engine(**limits)
    sent, queue, applied = await storm(engine, random.Random(5))  # noqa: S311
    assert await settle(engine) == {}
    fresh = await asyncio.wait_for(engine.predict(Call([png(1)], "fresh", timeout_s=30)), 30)
    assert fresh.step == 1
    quiet, expected = await replayed(queue, applied)
    await quiet.predict(Call([png(1)], "fresh"))
    mine = {one: place for one, place in queue.order if isinstance(place, Ticket)}
    compared = 0
    for one in sent:
        if isinstance(one.answer, Prediction) and one in mine:
            assert agree(one.answer, expected[mine[one]])
            compared += 1
    assert compared > 10
    steps = [
        {(info.stream, info.strategy): (info.steps, info.images) for info in (await either.streams()).streams}
        for either in (engine, quiet)
    ]
    assert steps[0] == steps[1]
    await engine.close()
    await quiet.close()
