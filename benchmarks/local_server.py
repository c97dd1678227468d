"""A server of one's own: started on a free port, waited for, and stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stream_client import ServerError, StreamClient

ROOT = Path(__file__).resolve().parent.parent
START_S = 120.0
STOP_S = 20.0


@contextmanager
def local_server(arguments: Sequence[str]) -> Iterator[str]:
    """Run ``renorm serve`` with these arguments while the block lasts; its URL.

    Raises:
        ServerError: it ended before it was ready, or was not ready in time; the message holds its last words.
    """
    port = _free_port()
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", str(port), *arguments]
    with tempfile.TemporaryFile("w+") as log:
        # A file, not a pipe: nobody reads while the benchmark runs, and a full pipe would stop the server.
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            if not _comes_up(url, server):
                log.seek(0)
                raise ServerError(f"the server did not start: {log.read()[-2000:].strip()}")
            yield url
        finally:
            _stop(server)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _comes_up(url: str, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    with StreamClient(url) as client:
        while server.poll() is None and time.monotonic() < deadline:
            try:
                client.ready()
            except ServerError:
                time.sleep(0.1)
            else:
                return True
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
