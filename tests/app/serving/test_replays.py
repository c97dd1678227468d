"""Requests that are sent again: one step, one answer, and bounded memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch

from app.errors import FieldError
from app.serving.replays import OVERHEAD, Replays, fingerprint
from app.types import Call, Prediction, Timing
from tests.app.fakes import EXPLANATION

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def prediction(step: int, images: int = 1) -> Prediction:
    timing = Timing(1.0, 1.0, 1.0, 3.0)
    return Prediction(torch.zeros(images, 10), [[0]], [[1.0]], 0.0, "bn", {}, step, True, 0.0, 0.0, timing)


async def test_an_answer_is_kept_and_given_to_all_who_ask_again() -> None:
    replays, first = Replays(), prediction(1)
    assert await replays.find(("a", "1"), b"x") is None
    replays.keep(("a", "1"), first)
    assert await replays.find(("a", "1"), b"x") is first
    assert await replays.find(("b", "1"), b"x") is None  # of another stream


async def test_repeated_request_waits_for_the_pending_answer() -> None:
    replays, first = Replays(), prediction(1)
    assert await replays.find(("a", "1"), b"x") is None
    others = [asyncio.ensure_future(replays.find(("a", "1"), b"x")) for _ in range(3)]
    await asyncio.sleep(0)
    others[0].cancel()  # which must not take it from the others
    await asyncio.sleep(0)
    replays.keep(("a", "1"), first)
    assert await asyncio.gather(*others[1:]) == [first, first]


async def test_one_waiting_request_computes_a_missing_answer() -> None:
    replays, second = Replays(), prediction(2)
    assert await replays.find(("a", "1"), b"x") is None
    others = [asyncio.ensure_future(replays.find(("a", "1"), b"x")) for _ in range(3)]
    await asyncio.sleep(0)
    replays.drop(("a", "1"))
    done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == [None]
    assert len(waiting) == 2
    replays.keep(("a", "1"), second)
    assert await asyncio.gather(*waiting) == [second, second]


async def test_the_oldest_go_when_there_is_no_room() -> None:
    size = OVERHEAD + 40
    replays = Replays(max_bytes=3 * size)
    for i in range(10):
        assert await replays.find(("a", str(i)), b"x") is None
        replays.keep(("a", str(i)), prediction(i))
        assert replays.bytes <= 3 * size
    assert len(replays) == 3
    assert (await replays.find(("a", "9"), b"x")) is not None
    assert await replays.find(("a", "6"), b"x") is None


async def test_an_explanation_counts_among_the_bytes_of_an_answer() -> None:
    replays = Replays()
    assert await replays.find(("a", "1"), b"x") is None
    replays.keep(("a", "1"), replace(prediction(1), explanation=EXPLANATION))
    assert replays.bytes > OVERHEAD + 40 + len(EXPLANATION.words)


async def test_old_answers_expire_but_not_pending_ones() -> None:
    replays = Replays(max_age_s=0.02)
    assert await replays.find(("a", "made"), b"x") is None
    assert await replays.find(("a", "kept"), b"x") is None
    replays.keep(("a", "kept"), prediction(1))
    await asyncio.sleep(0.05)
    assert await replays.find(("a", "kept"), b"x") is None
    assert replays.bytes == 0
    assert len(replays) == 2
    replays.keep(("a", "made"), prediction(2))
    assert replays.bytes == OVERHEAD + 40


async def test_a_name_stands_for_one_request() -> None:
    replays = Replays()
    assert await replays.find(("a", "1"), b"x") is None
    with pytest.raises(FieldError, match="request id '1' was already used for a different request of stream 'a'"):
        await replays.find(("a", "1"), b"y")
    replays.keep(("a", "1"), prediction(1))
    with pytest.raises(FieldError):
        await replays.find(("a", "1"), b"y")


def test_fingerprint_covers_all_of_a_request_but_its_id_and_timeout() -> None:
    call = Call([b"one", b"two"], "s")
    others = [
        Call([b"onet", b"wo"], "s"),
        Call([b"one"], "s"),
        Call([b"one", b"two"], "t"),
        Call([b"one", b"two"], "s", "bn"),
        Call([b"one", b"two"], "s", params={"momentum": 0.1}),
        Call([b"one", b"two"], "s", update=False),
        Call([b"one", b"two"], "s", top_k=1),
        Call([b"one", b"two"], "s", start=True),
        Call([b"one", b"two"], "s", end=True),
        Call([b"one", b"two"], "s", explain=True),
        Call(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), "s"),
        Call(torch.ones(1, 2, 2, 3, dtype=torch.uint8), "s"),
        Call(torch.zeros(1, 3, 2, 2), "s"),
    ]
    assert len({fingerprint(one) for one in (call, *others)}) == 14
    assert fingerprint(call) == fingerprint(Call([b"one", b"two"], "s", request_id="x", timeout_s=3.0))
