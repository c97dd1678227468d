"""A decoder in its own process, because a decoding that takes too long can be ended only with its process.

Requests come on standard input and replies leave on what was standard output; see `read_message`. Imports Pillow and
numpy, and not torch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import RenormError
from app.images.limits import ImageLimits
from app.images.preprocessing import Preprocessing
from app.images.reading import decode

_BASE_BYTES, _BYTES_PER_PIXEL = 512_000_000, 16

Decode = Callable[[bytes, Preprocessing, ImageLimits], NDArray[np.uint8]]


def write_message(pipe: BinaryIO, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Send a JSON object and bytes: the lengths of both, 4 bytes each, then the two."""
    line = json.dumps(head).encode()
    pipe.write(len(line).to_bytes(4) + len(body).to_bytes(4) + line)
    pipe.write(body)
    pipe.flush()


def read_message(pipe: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """Return the next message.

    Raises:
        EOFError: the other side is gone.
    """
    sizes = pipe.read(8)
    if len(sizes) < 8:
        raise EOFError
    line, body = (pipe.read(int.from_bytes(sizes[i : i + 4])) for i in (0, 4))
    return json.loads(line), body


def serve(requests: BinaryIO, replies: BinaryIO, read: Decode = decode) -> None:
    """Decode requests until the pipe closes."""
    while True:
        try:
            head, data = read_message(requests)
        except EOFError:
            return
        preprocessing, limits = Preprocessing(**head["how"]), ImageLimits(*head["limits"])
        with _cpu_seconds(head["seconds"]):
            reply, pixels = _decode_reply(read, data, preprocessing, limits)
        write_message(replies, reply, pixels)


def main(read: Decode = decode) -> None:
    """Serve the process that started this one. Whatever prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # The limit that counts is that of the server, which has looked already.
    Image.MAX_IMAGE_PIXELS = None
    write_message(replies, {"ready": True})
    serve(sys.stdin.buffer, replies, read)


def limit_memory(pixels: int) -> None:
    """Limit the memory of the process to well above the needs of an image of so many ``pixels``."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        resource = importlib.import_module("resource")  # there is none on Windows
        limit = _BASE_BYTES + _BYTES_PER_PIXEL * pixels
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def _decode_reply(
    read: Decode, data: bytes, preprocessing: Any, limits: ImageLimits
) -> tuple[dict[str, Any], bytes | memoryview]:
    try:
        pixels = np.ascontiguousarray(read(data, preprocessing, limits))
    except RenormError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}, b""
    except MemoryError:
        return {"error": "MemoryError"}, b""
    return {"shape": pixels.shape}, pixels.data.cast("B")


@contextlib.contextmanager
def _cpu_seconds(seconds: float) -> Any:
    """End the process when the block takes more than ``seconds`` of CPU time."""
    timer = getattr(signal, "setitimer", None)
    if timer is None:
        yield
        return
    timer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        timer(signal.ITIMER_PROF, 0)
