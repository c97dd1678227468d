"""The decode stage: it turns the images of a request into one tensor.

Images whose cost is bounded by their headers are decoded in threads, which is fastest; all others in processes, which
can be ended: see `app.images.is_cheap`. A single tiny one is decoded where it is: a thread would hold the interpreter's
lock nearly as long, and handing over to it costs the event loop as much again.
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
from app.errors import EngineClosedError, FieldError, TooLargeError
from app.images import CHEAP_PIXELS, TINY_PIXELS, ImageLimits, check_header, cut_pixels, decode, is_cheap, is_tiny
from app.models.hosted import Preprocessing
from app.resources.memory import Part
from app.serving.budget import NOBODY, Budget
from app.serving.decode_share import CostlyError, Read, Share
from app.serving.decoder_pool import DecoderPool
from app.serving.input_range import InputRange
from app.serving.shares import Flow

TURN_S = 0.01
"""Seconds that a thread decodes for one request before another stream's may have its turn."""

STUCK_S = 10.0
"""Seconds after which an image that a thread works on is taken to hang."""


class DecodeStage:
    """Threads beside the event loop, as many as there are cores, and a `DecoderPool` for what may take long.

    With ``input_range="off"`` the network's own input may hold any finite numbers, also those that no picture can give.
    """

    def __init__(
        self,
        how: Preprocessing,
        limits: ImageLimits,
        input_range: str = "check",
        decode_seconds: float = 5.0,
        decode_bytes: int = 512_000_000,
    ) -> None:
        self._range = InputRange(how) if input_range == "check" else None
        self.image_bytes = math.prod(how.input_shape)
        self._how, self._limits = how, limits
        self._cheap = limits._replace(pixels=min(limits.pixels, CHEAP_PIXELS))
        self._has_tiny_input = how.height * how.width <= TINY_PIXELS
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "renorm-decode")
        self._turns = Budget(self._threads + 1)  # in images that threads have been given, see `_set_turn`
        self._turn, self._image_s = 1, TURN_S
        self._processes = DecoderPool(how, limits, decode_seconds, memory=decode_bytes)
        self._begun: dict[int, float] = {}
        self._closed = False

    def bytes_of(self, images: Sequence[bytes] | Tensor) -> int:
        """How many bytes a request's images take once they are decoded."""
        prepared = isinstance(images, Tensor) and images.is_floating_point()
        return len(images) * self.image_bytes * (4 if prepared else 1)

    async def __call__(self, images: Sequence[bytes] | Tensor, flow: Flow = NOBODY) -> Tensor:
        """A request's images: pixels, uint8 ``[n, height, width, channels]``, or the network's input where it was sent.

        Raises:
            ImageError, TooLargeError, TooExpensiveError, FieldError: of the first image that cannot be taken; it is
                named.
            EngineClosedError: the pool is closed.
        """
        if isinstance(images, Tensor):
            check_shape(images, self._how)
            if images.is_floating_point():
                check_numbers(images)
                if self._range is not None:
                    self._range.check(images)
                return images
            how = self._how
            if images.shape[1:] == (how.height, how.width, how.channels) and how.size == how.resize:
                return images
            read: Read = self._cut
            return await self._in_parallel(images.numpy(), read, flow)
        if len(images) == 1 and self._has_tiny_input and not self._closed and is_tiny(images[0]):
            with suppress(CostlyError):  # of limits that a user has set lower still
                return torch.from_numpy(self._decode(images[0], "images[0]")[None].copy())
        return await self._in_parallel(images, self._decode, flow)

    @property
    def memory(self) -> Part:
        """What images in the processes take."""
        budget = self._processes.memory
        return Part("decoding", budget.lent, budget.capacity)

    @property
    def busy_s(self) -> float:
        """Seconds for which every thread has been at one and the same image, 0 where one is free."""
        begun = list(self._begun.values())
        return time.monotonic() - max(begun) if len(begun) >= self._threads else 0.0

    async def check(self) -> bool:
        """Tell whether decoding goes on: a thread is free or makes progress, and processes can be started."""
        return self.busy_s < STUCK_S and await self._processes.check()

    async def _in_parallel(self, files: Any, read: Read, flow: Flow) -> Tensor:
        pixels = np.empty((len(files), self._how.height, self._how.width, self._how.channels), np.uint8)
        # As many jobs as can run at once: handing over a job costs about as much as decoding a small image.
        jobs = min(len(files), self._threads)
        shares = [Share(read, pixels, files, range(i, len(files), jobs), self._begun) for i in range(jobs)]
        try:
            await _all([self._fill(share, flow) for share in shares])
        except (RuntimeError, asyncio.CancelledError) as error:
            for share in shares:
                share.is_cancelled = True
            if self._closed:
                raise _closed() from error
            raise
        failures = [share.failure for share in shares if share.failure is not None]
        first, failure = min(failures, key=lambda failure: failure[0]) if failures else (len(files), None)
        costly = sorted(i for share in shares for i in share.costly if i < first)
        if costly:
            await self._by_processes(files, costly, pixels, flow)
        if failure is not None:
            raise failure
        return torch.from_numpy(pixels)

    async def _fill(self, share: Share, flow: Flow) -> None:
        """Decode a share in turns, between which those of other streams have theirs."""
        run = asyncio.get_running_loop().run_in_executor
        while share.left:
            count = min(self._turn, share.left)
            await self._turns.take(count, flow)
            try:
                self._set_turn(await run(self._pool, share.fill, count) / count)
            finally:
                self._turns.give_back(count, flow)

    def _set_turn(self, image_s: float) -> None:
        """Let a turn be as many images as take `TURN_S` together; one beyond those at work is given out ahead."""
        self._image_s = max(1e-6, self._image_s + 0.1 * (image_s - self._image_s))
        self._turn = max(1, min(int(TURN_S / self._image_s), 64))
        self._turns.capacity = self._turn * (self._threads + 1)

    async def _by_processes(
        self, files: Sequence[bytes], places: list[int], pixels: NDArray[np.uint8], flow: Flow
    ) -> None:
        """Decode the images at those places; the first that fails ends the work on the others."""
        # No more at a time than can run, so that another request's turn comes.
        turn = asyncio.Semaphore(self._processes.count)

        async def decoded(i: int) -> None:
            async with turn:
                pixels[i] = await self._processes.decode(files[i], f"images[{i}]", flow)

        tasks = [asyncio.ensure_future(decoded(i)) for i in places]
        try:
            for task in tasks:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Drop what is not begun, end the processes and let the threads end."""
        self._closed = True
        self._processes.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, file: bytes, location: str) -> NDArray[np.uint8]:
        if len(file) <= self._limits.bytes and not is_cheap(file):
            raise CostlyError
        try:
            return decode(file, self._how, self._cheap, location)
        except TooLargeError:
            check_header(file, self._limits, location)
            raise CostlyError from None

    def _cut(self, pixels: NDArray[np.uint8], location: str) -> NDArray[np.uint8]:
        return cut_pixels(pixels, self._how, self._limits, location)


def check_shape(images: Tensor, how: Preprocessing) -> None:
    """Refuse a tensor that is neither pixels nor the network's input.

    Raises:
        FieldError: another type or shape; the message says what is taken.
    """
    shape, wanted = list(images.shape), ["n", *how.input_shape]
    colours = [3] if how.channels == 3 else [1, 3]
    pixels = " or ".join(f"[n, height, width, {count}]" for count in colours)
    if images.dtype == torch.uint8:
        if images.dim() != 4 or shape[3] not in colours or min(shape) < 1:
            raise FieldError(
                f"images of type uint8 must be {pixels}, not {shape}",
                hint="send pixels, channels last",
                location="images",
            )
    elif images.dtype != torch.float32 or shape[1:] != wanted[1:]:
        raise FieldError(
            f"images must be float32 [{', '.join(map(str, wanted))}] or uint8 {pixels}, not {images.dtype} {shape}",
            hint="send the network's preprocessed input, pixels, or encoded files",
            location="images",
        )


def check_numbers(images: Tensor) -> None:
    """Refuse numbers that are not finite before they come near a stream's state or other requests.

    Raises:
        FieldError: an image holds NaN or an infinite number; it is named.
    """
    for i, finite in enumerate(finite_rows(images)):
        if not finite:
            raise FieldError(
                "the image holds numbers that are not finite", hint="check its preprocessing", location=f"images[{i}]"
            )


async def _all(work: list[Coroutine[Any, Any, None]]) -> None:
    # What gathering one costs is a tenth of a small request.
    if len(work) == 1:
        await work[0]
    else:
        await asyncio.gather(*work)


def _closed() -> EngineClosedError:
    return EngineClosedError("the engine is closed", hint="wait until the server is ready again and repeat the request")
