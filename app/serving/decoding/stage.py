"""The decode stage: it turns the images of a request into one tensor.

Images whose cost is bounded by their headers are decoded in threads, which is fastest; all others in processes, which
can be killed: see `app.images.is_cheap`. A single tiny image is decoded on the event loop's thread: another thread
would hold the interpreter's lock nearly as long, and handing over costs as much again.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.finite import finite_rows
from app.errors import IMAGES, FieldError, TooLargeError, attribute_to_image, unavailable_error
from app.images import CHEAP_PIXELS, TINY_PIXELS, ImageLimits, check_header, cut_pixels, decode, is_cheap, is_tiny
from app.models.hosted import Preprocessing
from app.resources.memory import MemoryUse
from app.serving.budget import NO_FLOW, Budget
from app.serving.decoding.input_range import InputRange
from app.serving.decoding.pool import DecoderPool
from app.serving.decoding.share import CostlyError, Read, Share
from app.serving.shares import Flow

TURN_S = 0.01
"""Seconds that a thread decodes for one request before the turn of another stream."""

STUCK_S = 10.0
"""Seconds after which a thread that decodes one image counts as hung."""


class DecodeStage:
    """A pool of threads, one per core, and a `DecoderPool` for images that may take long.

    With ``input_range="off"`` preprocessed inputs may hold any finite numbers, also those that no image can have.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        limits: ImageLimits,
        input_range: str = "check",
        decode_seconds: float = 5.0,
        decode_bytes: int = 512_000_000,
    ) -> None:
        self._range = InputRange(preprocessing) if input_range == "check" else None
        self.image_bytes = math.prod(preprocessing.input_shape)
        self._preprocessing, self._limits = preprocessing, limits
        self._shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
        self._cheap = limits._replace(pixels=min(limits.pixels, CHEAP_PIXELS))
        self._has_tiny_input = preprocessing.height * preprocessing.width <= TINY_PIXELS
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "renorm-decode")
        self._turns = Budget(self._threads + 1)  # in images handed to threads, see `_set_turn`
        self._turn, self._image_s = 1, TURN_S
        self._processes = DecoderPool(preprocessing, limits, decode_seconds, memory=decode_bytes)
        self._started_at: dict[int, float] = {}
        self._closed = False

    def bytes_of(self, images: Sequence[bytes] | Tensor) -> int:
        """Return the size of a request's images in bytes once they are decoded."""
        is_prepared = isinstance(images, Tensor) and images.is_floating_point()
        return len(images) * self.image_bytes * (4 if is_prepared else 1)

    async def __call__(self, images: Sequence[bytes] | Tensor, flow: Flow = NO_FLOW) -> Tensor:
        """Decode images to uint8 ``[n, height, width, channels]``, or return the network's input where that was sent.

        Raises:
            ImageError, TooLargeError, TooExpensiveError, FieldError: of the first invalid image, which it names.
            EngineClosedError: the pool is closed.
        """
        if isinstance(images, Tensor):
            check_shape(images, self._preprocessing)
            if images.is_floating_point():
                check_numbers(images)
                if self._range is not None:
                    self._range.check(images)
                return images
            if images.shape[1:] == self._shape and self._preprocessing.size == self._preprocessing.resize:
                return images
            return await self._in_parallel(images.numpy(), self._cut, flow)
        if len(images) == 1 and self._has_tiny_input and not self._closed and is_tiny(images[0]):
            with suppress(CostlyError), attribute_to_image(0):  # costly where the user has set even lower limits
                return torch.from_numpy(self._decode(images[0])[None].copy())
        return await self._in_parallel(images, self._decode, flow)

    @property
    def memory(self) -> MemoryUse:
        """The memory that images in decoder processes take."""
        budget = self._processes.memory
        return MemoryUse("decoding", budget.lent, budget.capacity)

    @property
    def busy_s(self) -> float:
        """Seconds for which every thread has been decoding the same image, 0 where a thread is free."""
        started = list(self._started_at.values())
        return time.monotonic() - max(started) if len(started) >= self._threads else 0.0

    async def check(self) -> bool:
        """Return whether decoding works: a thread is free or makes progress, and processes can be started."""
        return self.busy_s < STUCK_S and await self._processes.check()

    async def _in_parallel(self, files: Any, read: Read, flow: Flow) -> Tensor:
        pixels = np.empty((len(files), *self._shape), np.uint8)
        # As many jobs as can run at once: handing over a job costs about as much as decoding a small image.
        jobs = min(len(files), self._threads)
        shares = [Share(read, pixels, files, range(i, len(files), jobs), self._started_at) for i in range(jobs)]
        try:
            await _gather([self._fill(share, flow) for share in shares])
        except (RuntimeError, asyncio.CancelledError) as error:
            for share in shares:
                share.is_cancelled = True
            if self._closed:
                raise unavailable_error() from error
            raise
        failures = [share.failure for share in shares if share.failure is not None]
        first, failure = min(failures, key=lambda failure: failure[0]) if failures else (len(files), None)
        costly = sorted(i for share in shares for i in share.costly if i < first)
        if costly:
            await self._by_processes(files, costly, pixels, flow)
        if failure is not None:
            with attribute_to_image(first):
                raise failure
        return torch.from_numpy(pixels)

    async def _fill(self, share: Share, flow: Flow) -> None:
        """Decode a share in turns that alternate with those of other streams."""
        run = asyncio.get_running_loop().run_in_executor
        while share.remaining:
            count = min(self._turn, share.remaining)
            await self._turns.take(count, flow)
            try:
                self._set_turn(await run(self._pool, share.fill, count) / count)
            finally:
                self._turns.give_back(count, flow)

    def _set_turn(self, image_s: float) -> None:
        """Set the turn to the images that take `TURN_S`; one turn more than there are threads is handed out."""
        self._image_s = max(1e-6, self._image_s + 0.1 * (image_s - self._image_s))
        self._turn = max(1, min(int(TURN_S / self._image_s), 64))
        self._turns.capacity = self._turn * (self._threads + 1)

    async def _by_processes(
        self, files: Sequence[bytes], places: list[int], pixels: NDArray[np.uint8], flow: Flow
    ) -> None:
        """Decode the images at ``places`` in processes; the first failure cancels the others."""
        # No more at a time than can run, so that other requests get their turn.
        turn = asyncio.Semaphore(self._processes.count)

        async def decode_at(i: int) -> None:
            async with turn:
                with attribute_to_image(i):
                    pixels[i] = await self._processes.decode(files[i], flow)

        tasks = [asyncio.ensure_future(decode_at(i)) for i in places]
        try:
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Cancel jobs that have not started, kill the processes and let the threads end."""
        self._closed = True
        self._processes.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, file: bytes) -> NDArray[np.uint8]:
        if len(file) <= self._limits.bytes and not is_cheap(file):
            raise CostlyError
        try:
            return decode(file, self._preprocessing, self._cheap)
        except TooLargeError:
            check_header(file, self._limits)
            raise CostlyError from None

    def _cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cut_pixels(pixels, self._preprocessing, self._limits)


def check_shape(images: Tensor, preprocessing: Preprocessing) -> None:
    """Check that a tensor is pixels or the network's input.

    Raises:
        FieldError: the type or shape is another; the message names the valid ones.
    """
    shape, expected = list(images.shape), ["n", *preprocessing.input_shape]
    colours = [3] if preprocessing.channels == 3 else [1, 3]
    pixels = " or ".join(f"[n, height, width, {count}]" for count in colours)
    if images.dtype == torch.uint8:
        if images.dim() != 4 or shape[3] not in colours or min(shape) < 1:
            raise FieldError(
                f"images of type uint8 must be {pixels}, not {shape}",
                hint="send pixels, channels last",
                location=IMAGES,
            )
    elif images.dtype != torch.float32 or shape[1:] != expected[1:]:
        raise FieldError(
            f"images must be float32 [{', '.join(map(str, expected))}] or uint8 {pixels}, not {images.dtype} {shape}",
            hint="send the network's preprocessed input, pixels, or encoded files",
            location=IMAGES,
        )


def check_numbers(images: Tensor) -> None:
    """Check that all numbers are finite, before they can reach a stream's state or other requests.

    Raises:
        FieldError: an image contains NaN or infinity; the error names it.
    """
    for i, finite in enumerate(finite_rows(images)):
        if not finite:
            raise FieldError("the image contains NaN or infinity", hint="check its preprocessing", image=i)


async def _gather(work: list[Coroutine[Any, Any, None]]) -> None:
    # asyncio.gather of one costs a tenth of a small request.
    if len(work) == 1:
        await work[0]
    else:
        await asyncio.gather(*work)
