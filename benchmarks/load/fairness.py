"""Measure the waiting time of a polite stream beside one that floods the server, and beside many that send as much.

    python -m benchmarks.load.fairness --against ../former-checkout

One client sends one image after another, with a pause between them, and waits for each answer. Beside it others keep
requests waiting: all of one stream (a flood), or each of its own (the same load, shared alike). The three kinds of load
take turns in one run, each server with its defaults, on the cores that the clients use too. Printed are the polite
client's median and 99th percentile, and its ratio to the same load shared alike.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.load.neighbours import IMAGE, ROOT, read_status, served

PAUSE_S = 0.05


def request(stream: str, images: int) -> bytes:
    """One request of so many images, as a form of files."""
    image, edge = IMAGE.read_bytes(), b"cut-here"
    head = b'Content-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = b"".join(b"--" + edge + b"\r\n" + head + image + b"\r\n" for _ in range(images)) + b"--" + edge + b"--\r\n"
    lines = (
        f"POST /v1/predict?stream={stream} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: multipart/form-data; boundary={edge.decode()}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def repeat(port: int, content: bytes, pause_s: float = 0.0) -> list[float]:
    """Send the same again and again until cancelled; the seconds that each answer took."""
    times: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(asyncio.CancelledError):
        while True:
            started = time.monotonic()
            writer.write(content)
            status = await read_status(reader)
            if status != 200:
                raise SystemExit(f"the server answers {status}")
            times.append(time.monotonic() - started)
            await asyncio.sleep(pause_s)
    writer.close()
    return times


async def measure(port: int, streams: list[str], images: int, seconds: float) -> tuple[list[float], float]:
    """The polite client's times beside one client of each of ``streams``, and the images a second that those get."""
    crowd = [asyncio.ensure_future(repeat(port, request(stream, images))) for stream in streams]
    await asyncio.sleep(min(2.0, seconds / 4) if streams else 0.1)
    polite = asyncio.ensure_future(repeat(port, request("polite", 1), PAUSE_S))
    await asyncio.sleep(seconds)
    for task in (polite, *crowd):
        task.cancel()
    times = await polite
    answered = sum(len(times) for times in await asyncio.gather(*crowd))
    # The first answer may have waited for what was sent before there was anybody to share with.
    return times[1:], answered * images / seconds


def loads(clients: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each load and the streams of the clients that cause it."""
    yield "alone", []
    yield "shared alike", [f"other-{i}" for i in range(clients)]
    yield "flood", ["flood"] * clients


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--clients", type=int, default=64, help="requests that the other clients keep waiting")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 16], help="images of each of these requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    checkouts = [ROOT, *([options.against] if options.against else [])]
    for images in options.images:
        print(f"{options.clients} other requests of {images} wait:")
        times: dict[tuple[Path, str], list[float]] = {}
        rates: dict[tuple[Path, str], list[float]] = {}
        for _ in range(options.rounds):
            for checkout in checkouts:
                for name, streams in loads(options.clients):
                    with served(checkout) as port:
                        seconds, rate = asyncio.run(measure(port, streams, images, options.seconds))
                    times.setdefault((checkout, name), []).extend(seconds)
                    rates.setdefault((checkout, name), []).append(rate)
        for checkout in checkouts:
            even = np.percentile(times[checkout, "shared alike"] or [np.nan], 99)
            for name, _ in loads(0):
                p50, p99 = np.percentile(times[checkout, name] or [np.nan], [50, 99])
                count, rate = len(times[checkout, name]), float(np.median(rates[checkout, name]))
                whose = "this build" if checkout == ROOT else "the other"
                print(
                    f"  {whose:11} {name:13} p50 {1000 * p50:7.0f} ms  p99 {1000 * p99:7.0f} ms  "
                    f"({p99 / even:5.2f} of shared alike, {count} answers)  others {rate:5.0f} images/s"
                )


if __name__ == "__main__":
    main()
