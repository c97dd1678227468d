"""The decode stage: threads that turn the images of a request into one tensor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.finite import finite_rows
from app.errors import EngineClosedError, FieldError
from app.images import Limits, cut_pixels, decode
from app.input_range import InputRange
from app.models.hosted import Preprocessing

Read = Callable[[Any, str], NDArray[np.uint8]]
_Failure = tuple[int, Exception] | None


class Decoders:
    """A pool of threads beside the event loop, as many as there are cores.

    With ``input_range="off"`` the network's own input may hold any finite numbers, also those that no picture can give.
    """

    def __init__(self, how: Preprocessing, limits: Limits, input_range: str = "check") -> None:
        self._range = InputRange(how) if input_range == "check" else None
        self.image_bytes = 3 * how.size * how.size
        self._how, self._limits = how, limits
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "renorm-decode")
        self._closed = False

    def bytes_of(self, images: Sequence[bytes] | Tensor) -> int:
        """How many bytes a request's images take once they are decoded."""
        prepared = isinstance(images, Tensor) and images.is_floating_point()
        return len(images) * self.image_bytes * (4 if prepared else 1)

    async def __call__(self, images: Sequence[bytes] | Tensor) -> Tensor:
        """A request's images: pixels, uint8 ``[n, size, size, 3]``, or the network's input where it was sent.

        Raises:
            ImageError, TooLargeError, FieldError: of the first image that cannot be taken, which it names.
            EngineClosedError: the pool is closed.
        """
        if isinstance(images, Tensor):
            check_shape(images, self._how.size)
            if images.is_floating_point():
                check_numbers(images)
                if self._range is not None:
                    self._range.check(images)
                return images
            if images.shape[1] == images.shape[2] == self._how.size == self._how.resize:
                return images
            read: Read = self._cut
            return await self._in_parallel(images.numpy(), read)
        return await self._in_parallel(images, self._decode)

    async def _in_parallel(self, files: Any, read: Read) -> Tensor:
        pixels = np.empty((len(files), self._how.size, self._how.size, 3), np.uint8)
        # As many jobs as can run at once: handing over a job costs about as much as decoding a small image.
        jobs = min(len(files), self._threads)
        run = asyncio.get_running_loop().run_in_executor
        try:
            work = [run(self._pool, _fill, read, pixels, files, range(i, len(files), jobs)) for i in range(jobs)]
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

    def _decode(self, file: bytes, where: str) -> NDArray[np.uint8]:
        return decode(file, self._how, self._limits, where)

    def _cut(self, pixels: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
        return cut_pixels(pixels, self._how, self._limits, where)


def check_shape(images: Tensor, size: int) -> None:
    """Refuse a tensor that is neither pixels nor the network's input.

    Raises:
        FieldError: another type or shape; the message says what is taken.
    """
    shape = list(images.shape)
    if images.dtype == torch.uint8:
        if images.dim() != 4 or shape[3] != 3 or min(shape) < 1:
            raise FieldError(
                f"images of type uint8 must be [n, height, width, 3], not {shape}",
                hint="send RGB pixels, channels last",
                where="images",
            )
    elif images.dtype != torch.float32 or shape[1:] != [3, size, size]:
        raise FieldError(
            f"images must be float32 [n, 3, {size}, {size}] or uint8 [n, height, width, 3], not {images.dtype} {shape}",
            hint="send the network's preprocessed input, RGB pixels, or encoded files",
            where="images",
        )


def check_numbers(images: Tensor) -> None:
    """Refuse numbers that are not finite before they come near a stream's state or other requests.

    Raises:
        FieldError: an image holds NaN or an infinite number; it is named.
    """
    for i, finite in enumerate(finite_rows(images)):
        if not finite:
            raise FieldError(
                "the image holds numbers that are not finite", hint="check its preprocessing", where=f"images[{i}]"
            )


def _fill(read: Read, pixels: NDArray[np.uint8], files: Sequence[Any], share: range) -> _Failure:
    """Write the images of one share where they belong; the first that fails, and why."""
    for i in share:
        try:
            pixels[i] = read(files[i], f"images[{i}]")
        except Exception as error:
            return i, error
    return None


async def _all(work: list[asyncio.Future[_Failure]]) -> list[_Failure]:
    # What gathering one costs is a tenth of a small request.
    return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)


def _closed() -> EngineClosedError:
    return EngineClosedError("the engine is closed", hint="wait until the server is ready again and repeat the request")
