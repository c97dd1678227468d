"""Throughput of `renorm serve` beside busy programs, against another checkout of it: A B A B, in one run.

    python -m benchmarks.load.neighbours --against ../former-checkout --busy 2 --model timm:resnet18

Both servers run with their defaults but for the model, in turn, on the cores that clients and busy loops use too.
Printed are images a second, their medians, and the ratio, without busy loops beside the server and with them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
IMAGE = ROOT / "docs" / "examples" / "foggy-ship.png"


@contextmanager
def served(checkout: Path, model: str = "cifar10-resnet20") -> Iterator[int]:
    """The port of a server of that checkout, ready, with its defaults."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    unset = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--model", model]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=checkout, env=environment, stdout=quiet, stderr=quiet)
    try:
        asyncio.run(_wait(port))
        yield port
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """That many programs that do nothing but take a core each."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


async def drive(port: int, clients: int, seconds: float) -> float:
    """Images a second that so many clients get answered, one stream and one connection each."""
    image, end = IMAGE.read_bytes(), time.monotonic() + seconds
    answered = 0

    async def client(number: int) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/predict?stream=s{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        request = f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image
        while time.monotonic() < end:
            writer.write(request)
            status = await read_status(reader)
            if status != 200:
                raise SystemExit(f"the server answers {status}")
            answered += 1
        writer.close()

    started = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return answered / (time.monotonic() - started)


async def read_status(reader: asyncio.StreamReader) -> int:
    """The status of an answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length"))
    await reader.readexactly(length)
    return int(head.split()[1])


async def _wait(port: int) -> None:
    for _ in range(600):
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            status = await read_status(reader)
            writer.close()
            if status == 200:
                return
        await asyncio.sleep(0.1)
    raise SystemExit("a server is not ready after a minute")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="folder of another checkout")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="busy loops beside the server")
    parser.add_argument("--model", default="cifar10-resnet20", help="model that both host")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    for busy in (0, options.busy):
        rates: dict[Path, list[float]] = {ROOT: [], options.against: []}
        for _ in range(options.rounds):
            for checkout, samples in rates.items():
                with served(checkout, options.model) as port:
                    asyncio.run(drive(port, options.clients, 2.0))  # warm
                    with busy_loops(busy):
                        samples.append(asyncio.run(drive(port, options.clients, options.seconds)))
        rate, base = (statistics.median(samples) for samples in rates.values())
        listed = "; ".join(", ".join(f"{rate:.0f}" for rate in samples) for samples in rates.values())
        print(f"{busy} busy loops: {rate:.1f} images/s against {base:.1f}, ratio {rate / base:.2f} ({listed})")


if __name__ == "__main__":
    main()
