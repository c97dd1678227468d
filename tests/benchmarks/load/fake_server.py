"""A server in a thread whose answers a test decides, byte by byte."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[bytes], bytes | None]
"""What to write for the body of a request; None hangs up."""

PREDICTION = b'{"predictions": [{"label": "ship", "index": 8, "probability": 0.5}]}'


def ok(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    """A whole HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


@contextmanager
def fake_server(answer: Answer, pause_s: float = 0.0) -> Iterator[int]:
    """Answer requests one after the other, all connections in one queue, each after a pause; the port."""
    loop = asyncio.new_event_loop()
    gate = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (said := await _answered(reader, answer, gate, pause_s)) is not None:
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _answered(reader: asyncio.StreamReader, answer: Answer, gate: asyncio.Lock, pause_s: float) -> bytes | None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    async with gate:
        await asyncio.sleep(pause_s)
    return answer(body)


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
