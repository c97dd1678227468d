"""The decode stage: threads that turn the files of a request into one tensor of pixels."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import EngineClosedError
from app.images import Limits, decode
from app.models.hosted import Preprocessing

_Failure = tuple[int, Exception] | None


class Decoders:
    """A pool of threads beside the event loop, as many as there are cores."""

    def __init__(self, how: Preprocessing, limits: Limits) -> None:
        self.image_bytes = 3 * how.size * how.size
        self._how, self._limits = how, limits
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "renorm-decode")
        self._closed = False

    async def __call__(self, files: Sequence[bytes]) -> Tensor:
        """The pixels of a request's images, uint8 ``[n, size, size, 3]``.

        Raises:
            ImageError, TooLargeError: of the first image that cannot be taken, which it names.
            EngineClosedError: the pool is closed.
        """
        pixels = np.empty((len(files), self._how.size, self._how.size, 3), np.uint8)
        # As many jobs as can run at once: handing over a job costs about as much as decoding a small image.
        jobs = min(len(files), self._threads)
        run = asyncio.get_running_loop().run_in_executor
        try:
            work = [run(self._pool, self._fill, pixels, files, range(i, len(files), jobs)) for i in range(jobs)]
            failures = [failure for failure in await _all(work) if failure is not None]
        except (RuntimeError, asyncio.CancelledError) as error:
            if self._closed:
                raise _closed() from error
            raise
        if failures:
            raise min(failures, key=lambda failure: failure[0])[1]
        return torch.from_numpy(pixels)

    def close(self) -> None:
        """Drop what is not begun and let the threads end."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _fill(self, pixels: NDArray[np.uint8], files: Sequence[bytes], share: range) -> _Failure:
        """Write the images of one share where they belong; the first that fails, and why."""
        for i in share:
            try:
                pixels[i] = decode(files[i], self._how, self._limits, f"images[{i}]")
            except Exception as error:
                return i, error
        return None


async def _all(work: list[asyncio.Future[_Failure]]) -> list[_Failure]:
    # What gathering one costs is a tenth of a small request.
    return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)


def _closed() -> EngineClosedError:
    return EngineClosedError("the engine is closed", hint="wait until the server is ready again and repeat the request")
