"""What is lent at once, in which order, and what cancelling gives back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from app.serving.budget import Budget
from app.serving.shares import Flow

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def take(budget: Budget, *amounts: int) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(budget.take(amount)) for amount in amounts]


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def taken(*tasks: asyncio.Task[None]) -> list[bool]:
    await settle()
    return [task.done() for task in tasks]


async def test_bytes_that_fit_are_lent_at_once_and_others_after_a_return() -> None:
    budget = Budget(10)
    tasks = take(budget, 6, 4, 1)
    assert await taken(*tasks) == [True, True, False]
    budget.give_back(4)
    assert await taken(*tasks) == [True, True, True]
    assert (budget.lent, len(budget)) == (7, 0)


async def test_smaller_request_does_not_overtake() -> None:
    budget = Budget(10)
    tasks = take(budget, 8, 5, 1)
    assert await taken(*tasks) == [True, False, False]
    budget.give_back(8)
    assert await taken(*tasks) == [True, True, True]


async def test_one_coming_back_may_serve_many() -> None:
    budget = Budget(10)
    tasks = take(budget, 10, 3, 3, 3, 3)
    await settle()
    budget.give_back(10)
    assert await taken(*tasks) == [True, True, True, True, False]


async def test_more_than_there_is_is_lent_when_nothing_else_is() -> None:
    budget = Budget(10)
    tasks = take(budget, 1, 50, 1)
    assert await taken(*tasks) == [True, False, False]
    budget.give_back(1)
    assert await taken(*tasks) == [True, True, False]
    budget.give_back(50)
    assert await taken(*tasks) == [True, True, True]
    assert budget.lent == 1


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_caller_cancelled_while_waiting_has_borrowed_nothing_and_blocks_nobody() -> None:
    budget = Budget(10)
    first, large, small = take(budget, 6, 9, 3)
    assert await taken(first, large, small) == [True, False, False]
    await cancel(large)
    assert await taken(small) == [True]
    assert (budget.lent, len(budget)) == (9, 0)


async def test_caller_cancelled_at_its_grant_returns_the_bytes() -> None:
    budget = Budget(10)
    first, second, third = take(budget, 10, 10, 10)
    await settle()
    budget.give_back(10)
    await cancel(second)
    assert await taken(first, third) == [True, True]
    assert (budget.lent, len(budget)) == (10, 0)


async def test_caller_cancelled_just_before_its_grant_is_passed_over() -> None:
    budget = Budget(10)
    first, second, third = take(budget, 10, 10, 10)
    await settle()
    second.cancel()
    budget.give_back(10)
    assert await taken(first, second, third) == [True, True, True]
    assert second.cancelled()
    assert (budget.lent, len(budget)) == (10, 0)


def ask(budget: Budget, *wishes: tuple[Flow, int]) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(budget.take(amount, flow)) for flow, amount in wishes]


async def order(budget: Budget, tasks: dict[str, asyncio.Task[None]], amount: int) -> list[str]:
    """The names of those that wait, in the order in which they get ``amount``, which each gives back at once."""
    names: list[str] = []
    while len(budget):
        before = {name for name, task in tasks.items() if task.done()}
        budget.give_back(amount)
        await settle()
        names += [name for name, task in tasks.items() if task.done() and name not in before]
    return names


async def test_streams_take_turns_and_keep_their_order() -> None:
    budget = Budget(1)
    await budget.take(1)
    names = ["a1", "a2", "a3", "b1", "b2", "c1"]
    tasks = dict(zip(names, ask(budget, *((Flow(name[0]), 1) for name in names)), strict=True))
    await settle()
    assert await order(budget, tasks, 1) == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_clients_take_turns_too() -> None:
    budget = Budget(1)
    await budget.take(1)
    names = ["a1", "b1", "c1", "z1", "z2"]
    flows = [Flow(name[0], "other" if name[0] == "z" else "many") for name in names]
    tasks = dict(zip(names, ask(budget, *((flow, 1) for flow in flows)), strict=True))
    await settle()
    assert await order(budget, tasks, 1) == ["a1", "z1", "b1", "z2", "c1"]


async def test_requests_before_a_reset_of_all_come_first() -> None:
    budget = Budget(1)
    await budget.take(1)
    names = ["a1", "a2", "b1"]
    flows = [Flow(name[0], epoch=1 if name[0] == "b" else 0) for name in names]
    tasks = dict(zip(names, ask(budget, *((flow, 1) for flow in flows)), strict=True))
    await settle()
    assert await order(budget, tasks, 1) == ["a1", "a2", "b1"]


async def test_bytes_lent_for_a_block_return_at_every_end() -> None:
    budget = Budget(3)
    with suppress(ZeroDivisionError):
        async with budget.lent_to(Flow("a"), 3):
            assert budget.lent == 3
            raise ZeroDivisionError
    assert budget.lent == 0


@pytest.mark.parametrize(
    ("streams", "clients", "most"),
    [pytest.param(1, 1, 8, id="stream"), pytest.param(16, 1, 12, id="client"), pytest.param(16, 16, 16, id="all")],
)
async def test_lender_keeps_a_reserve_for_others(streams: int, clients: int, most: int) -> None:
    budget = Budget(16, keeps_reserve=True)
    flows = [Flow(f"s{i % streams}", f"c{i % clients}") for i in range(20)]
    tasks = [asyncio.ensure_future(budget.take(1, flow)) for flow in flows]
    await asyncio.sleep(0.01)
    assert budget.lent == most
    if most < 16:
        await budget.take(1, Flow("other", "other"))
        budget.give_back(1, Flow("other", "other"))
    for flow in flows:
        await asyncio.sleep(0)
        budget.give_back(1, flow)
    await asyncio.gather(*tasks)
    assert (budget.lent, len(budget), +budget._holdings) == (0, 0, {})


async def test_request_after_a_reset_waits_for_it_despite_free_bytes() -> None:
    budget = Budget(4, keeps_reserve=True)
    await budget.take(2, Flow("s", "c"))
    before = asyncio.ensure_future(budget.take(2, Flow("s", "c")))
    await asyncio.sleep(0)
    later = asyncio.ensure_future(budget.take(1, Flow("t", "d", epoch=1)))
    await asyncio.sleep(0)
    assert not later.done()
    budget.give_back(2, Flow("s", "c"))
    await asyncio.gather(before, later)
