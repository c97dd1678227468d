"""Clients that go away while they wait."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from app.http.requests.disconnect import while_connected

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Connection:
    """A request whose client goes away when told."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.request = Request({"type": "http", "headers": []}, self._receive)

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_work_is_called_off_when_the_client_goes() -> None:
    connection, calledoff = Connection(), False

    async def work() -> None:
        nonlocal calledoff
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            calledoff = True
            raise

    async def handle() -> None:
        async with while_connected(connection.request):
            await work()

    task = asyncio.ensure_future(handle())
    await asyncio.sleep(0.01)
    connection.gone.set()
    with pytest.raises(ClientDisconnect):
        await task
    assert calledoff
    assert not task.cancelling()


async def test_connected_client_gets_the_response_and_no_task_remains() -> None:
    connection = Connection()
    async with while_connected(connection.request):
        answer = 1
    before = asyncio.all_tasks()
    await asyncio.sleep(0)
    assert answer == 1
    assert asyncio.all_tasks() <= before
    connection.gone.set()
    await asyncio.sleep(0.01)  # too late to matter


async def test_an_error_of_the_work_is_what_it_was() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with while_connected(Connection().request):
            raise ValueError("mine")


async def test_a_server_that_ends_is_not_taken_for_a_client_that_goes() -> None:
    connection = Connection()

    async def handle() -> None:
        async with while_connected(connection.request):
            await asyncio.sleep(10)

    task = asyncio.ensure_future(handle())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
