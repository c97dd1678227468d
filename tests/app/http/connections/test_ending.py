"""Connections that are kept, and how they end: nothing that has arrived is lost."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from tests.app.http.connections.loopback import GET, run, serving, until

POST = b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\n"


def hold_up(seconds: float) -> None:
    """Let the event loop do nothing, as a thread that holds the interpreter does."""
    time.sleep(seconds)


def test_an_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    async def wait() -> None:
        async with serving(keep_alive_seconds=0.3, head_seconds=0.1) as place:
            client = await place.connect(GET)
            assert (await client.answer())[0] == 200
            begun = time.monotonic()
            assert await client.rest() == b""
            assert time.monotonic() - begun > 0.25

    run(wait)


def test_a_request_that_arrives_in_the_moment_of_closing_is_answered() -> None:
    async def race() -> None:
        async with serving() as place:
            clients = [await place.connect(GET) for _ in range(50)]
            for client in clients:
                assert (await client.answer())[0] == 200
            for client in clients:
                client.writer.write(GET)
            # Time is up while all of them wait in the kernel: the event loop has not had a turn to read them.
            for connection in list(place.server.server_state.connections):
                connection.timeout_keep_alive_handler()  # type: ignore[union-attr]
            for client in clients:
                assert (await client.answer())[0] == 200

    run(race)


def test_heads_that_waited_for_a_busy_event_loop_are_not_late() -> None:
    async def race() -> None:
        async with serving(head_seconds=0.2) as place:
            clients = [await place.connect() for _ in range(20)]
            await until(lambda: len(place.door) == 20)
            for client in clients:
                client.writer.write(GET)
            hold_up(0.5)
            for client in clients:
                assert (await client.answer())[0] == 200

    run(race)


def test_a_stop_answers_what_has_arrived_and_says_that_it_was_the_last() -> None:
    async def end() -> None:
        async with serving() as place:
            idle, late, running, half = [await place.connect(GET) for _ in range(4)]
            for client in (idle, late, running, half):
                assert "connection" not in (await client.answer())[1]
            place.app.gate.clear()
            await running.send(GET)
            await half.send(GET[:10])
            await until(lambda: len(place.server.server_state.tasks) == 1)
            late.writer.write(GET)
            ending = asyncio.ensure_future(place.stop())
            await asyncio.sleep(0.05)
            await half.send(GET[10:])
            place.app.gate.set()
            for client in (late, running, half):
                status, headers, _ = await client.answer()
                assert (status, headers["connection"]) == (200, "close")
                assert await client.rest() == b""
            assert await idle.rest() == b""
            await ending

    run(end)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (GET[:10], b"503"),
        (POST + b"a", b"503"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\n", b"503"),
    ],
    ids=["silent", "half-a-head", "half-a-body", "half-a-chunk"],
)
def test_unfinished_request_does_not_keep_a_server_from_ending_and_is_no_traceback(
    sent: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def end() -> None:
        async with serving(drain_s=1, grace_seconds=0.2) as place:
            client = await place.connect(sent)
            await until(lambda: len(place.door) == 1 and bool(place.server.server_state.tasks) == (b"POST" in sent))
            rest = asyncio.ensure_future(client.rest())
            begun = time.monotonic()
            await place.stop()
            assert time.monotonic() - begun < 5
            assert answer in await rest
            assert not place.server.server_state.tasks

    with caplog.at_level(logging.WARNING):
        run(end)
    assert "Traceback" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def test_a_forward_that_does_not_end_is_answered_as_unavailable_when_time_is_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end() -> None:
        async with serving(drain_s=1) as place:
            place.app.gate.clear()
            client = await place.connect(GET)
            await until(lambda: len(place.server.server_state.tasks) == 1)
            answer = asyncio.ensure_future(client.answer())
            await place.stop()
            assert (await answer)[0] == 503

    with caplog.at_level(logging.WARNING):
        run(end)
    assert not any(record.exc_info for record in caplog.records)
