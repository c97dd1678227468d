"""The real command, serving on a free port while a block lasts."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

ROOT = Path(__file__).parent.parent
RENORM = Path(sys.executable).parent / "renorm"


class Served(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[str]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(*options: str, said: tuple[str, ...] = (), unsaid: tuple[str, ...] = ("Traceback",)) -> Iterator[Served]:
    """`renorm serve` with these options, ready to answer; then told to end, which it does.

    Its output holds all that is to be ``said`` and nothing that these patterns find: what is to be ``unsaid``.
    """
    port = free_port()
    command = [str(RENORM), "serve", "--port", str(port), "--threads", "1", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield Served(f"http://127.0.0.1:{port}", process)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM), output
    for words in said:
        assert words in output, output
    for pattern in unsaid:
        assert re.search(pattern, output) is None, output


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    """Wait for the server's word, for at most a minute."""
    for _ in range(600):
        assert process.poll() is None, process.communicate()[0]
        try:
            if httpx.get(f"{url}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the server is not ready after a minute")
