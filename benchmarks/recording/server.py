"""The server of a checkout, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

START_SECONDS = 120.0
MODULES = ("app", "adapters")


class Address(NamedTuple):
    """The addresses of a server, each ``host:port``."""

    http: str
    grpc: str


class ServerError(RuntimeError):
    """The server does not start, or not from the checkout that was named."""


@contextmanager
def serve(checkout: Path, *options: str) -> Iterator[Address]:
    """Run ``python -m app serve`` of the checkout while the block lasts, with one thread and a gRPC port."""
    with tempfile.TemporaryDirectory() as folder:
        variables = _variables(checkout, folder)
        _check_origin(checkout, variables)
        ports = _free_ports(2)
        address = Address(*(f"127.0.0.1:{port}" for port in ports))
        listening = ["--port", str(ports[0]), "--grpc-port", str(ports[1]), "--threads", "1", "--device", "cpu"]
        log = Path(folder) / "server.log"
        with log.open("w") as output:
            command = [sys.executable, "-m", "app", "serve", *listening, *options]
            process = subprocess.Popen(command, cwd=checkout, env=variables, stdout=output, stderr=output)
            try:
                _wait_until_ready(f"http://{address.http}/readyz", process, log)
                yield address
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _variables(checkout: Path, folder: str) -> dict[str, str]:
    """Return an environment with the checkout's packages first, and without settings or files of this user."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RENORM_")}
    path = os.pathsep.join([str(checkout / "app" / "public"), str(checkout)])
    return {**variables, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "XDG_DATA_HOME": folder}


def _check_origin(checkout: Path, variables: dict[str, str]) -> None:
    """Raise if Python finds the packages elsewhere, as where an installed version comes first."""
    command = [
        sys.executable,
        "-c",
        f"import {', '.join(MODULES)}; print({', '.join(f'{m}.__file__' for m in MODULES)})",
    ]
    output = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=True).stdout
    if not all(Path(file).resolve().is_relative_to(checkout.resolve()) for file in output.split()):
        raise ServerError(f"the packages are not those of {checkout}, but {output.strip()}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]  # all at once, so that no two are the same
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]
    finally:
        for free in sockets:
            free.close()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise ServerError(f"the server is not ready: {log.read_text()[-2000:]}")
