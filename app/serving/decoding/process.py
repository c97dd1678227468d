"""One process that decodes images: used by one thread at a time, and killed by any."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import app
from app.errors import ImageError, RenormError, TooExpensiveError, TooLargeError
from app.images import ImageLimits
from app.images.worker import read_message, write_message
from app.models.hosted import Preprocessing

log = logging.getLogger("renorm.decoder")

SERVE = "from app.images import worker; worker.limit_memory({pixels}); worker.main()"
"""The program of a decoder."""

_ERRORS: dict[str, type[RenormError]] = {"ImageError": ImageError, "TooLargeError": TooLargeError}
_LONGEST_LINE = 500
_DYING_S = 1.0
_OF_TIMER = 27  # SIGPROF, where there are signals


class DecoderEndedError(Exception):
    """The process ended before it answered, with ``status`` as `subprocess` gives it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the decoder ended with status {status}")
        self.status = status


class DecoderProcess:
    """A child process that runs until it is killed, crashes, or the server ends.

    It is not in the terminal's process group, so that ctrl-C reaches the server alone, and sees none of its settings.
    Lines that libraries print go to the logger ``renorm.decoder`` at level DEBUG.
    """

    def __init__(self, limits: ImageLimits, program: str = SERVE) -> None:
        path = [str(Path(app.__file__).parents[1]), *sys.path]
        code = f"import sys; sys.path[:] = {path!r}; {program.replace('{pixels}', str(limits.pixels))}"
        settings = {name: value for name, value in os.environ.items() if not name.startswith("RENORM_")}
        self.is_killed, self.is_ready = False, False
        self._limits = limits
        self._process = subprocess.Popen(  # noqa: S603 - Python itself, with a program from this file
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**settings, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self._requests, self._answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        self.lines = threading.Thread(target=_log_lines, args=(_pipe(self._process.stderr),), daemon=True)
        self.lines.start()

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until the process reports that it has started, which takes a while the first time.

        Raises:
            DecoderEndedError: the process has ended.
        """
        if self.is_ready:
            return
        try:
            read_message(self._answers)
        except (EOFError, OSError, ValueError) as error:
            raise DecoderEndedError(self._status()) from error
        self.is_ready = True

    def decode(self, data: bytes, preprocessing: Preprocessing, seconds: float) -> NDArray[np.uint8]:
        """Decode one image as `app.images.decode` does, within ``seconds`` of CPU time.

        Raises:
            ImageError, TooLargeError: as `app.images.decode` does.
            TooExpensiveError: it took more memory than the process may have.
            DecoderEndedError: the process has ended.
        """
        head = {"how": asdict(preprocessing), "limits": list(self._limits), "seconds": seconds}
        try:
            write_message(self._requests, head, data)
            reply, body = read_message(self._answers)
        except (EOFError, OSError, ValueError) as error:
            raise DecoderEndedError(self._status()) from error
        if "shape" in reply:
            return np.frombuffer(body, np.uint8).reshape(reply["shape"])
        if reply["error"] == "MemoryError":
            raise too_expensive("takes too much memory to decode")
        raise _ERRORS.get(reply["error"], ImageError)(reply["message"], hint=reply["hint"])

    def _status(self) -> int:
        """Return the exit status of a process that stopped answering; kill it if it does not end."""
        try:
            return self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self) -> None:
        """Kill the process at once. May be called from any thread, and repeatedly."""
        if self._process.poll() is None:
            self.is_killed = True
            self._process.kill()

    def close(self) -> None:
        """Wait for the end of a killed process and close its pipes."""
        self._process.wait()
        for pipe in (self._requests, self._answers):
            try:
                pipe.close()
            except OSError:
                continue  # unread bytes


def was_ended_by_timer(status: int) -> bool:
    """Return whether a process with this exit status had used up its CPU time."""
    return status == -_OF_TIMER


def too_expensive(reason: str) -> TooExpensiveError:
    """Return the error of an image that costs too much; ``reason`` completes "the image ..."."""
    return TooExpensiveError(
        f"the image {reason}",
        hint="save it again in a simple format (baseline JPEG or PNG), send it scaled down, or raise "
        "RENORM_MAX_DECODE_SECONDS",
    )


def _pipe(pipe: IO[bytes] | None) -> Any:
    if pipe is None:
        raise RuntimeError("the decoder process has no pipes")
    return pipe


def _log_lines(lines: IO[bytes]) -> None:
    with lines:
        while line := lines.readline(_LONGEST_LINE):
            if text := line.decode(errors="replace").strip():
                log.debug("%s", text)
