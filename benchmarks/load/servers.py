"""Servers as processes: started on a free port, put to sleep while another is measured, stopped with their children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
STOP_S = 10.0


class LoadError(Exception):
    """Something that the benchmark needs is not there; the message says what, and how to mend it."""


@dataclass(frozen=True)
class ServerProcess:
    """A running server and its children, which form a process group."""

    title: str
    port: int
    pid: int

    def sleep(self) -> None:
        """Stop all its processes, so that one that polls while idle takes no time from the others."""
        os.killpg(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        os.killpg(self.pid, signal.SIGCONT)

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it has used so far."""
        return tree_cpu_s(self.pid)

    @property
    def memory(self) -> int:
        """Bytes resident in memory, where a page that several processes share counts once."""
        return sum(_share(process) for process in _tree(self.pid))


def tree_cpu_s(pid: int) -> float:
    """CPU seconds that a process and its living descendants have used."""
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def others_cpu_s() -> float:
    """CPU seconds that all programs but this one and its children have used since some moment in the past."""
    times = psutil.cpu_times()
    # Only Linux tells waiting for disks from idling.
    idle = times.idle + getattr(times, "iowait", 0.0)
    busy = float(sum(times[:8]) - idle)
    return busy - tree_cpu_s(os.getpid())


@contextmanager
def started(
    title: str, command: Callable[[int], Sequence[str]], ready: str, patience_s: float, environment: Mapping[str, str]
) -> Iterator[ServerProcess]:
    """Run a server while the block lasts: ``command`` of a free port, and ``ready`` the path that answers 200.

    Raises:
        LoadError: it ended before it was ready, or was not ready in time; the message holds its last words.
    """
    port = _free_port()
    with tempfile.TemporaryFile("w+") as log:
        # A file, not a pipe: nobody reads while the benchmark runs, and a full pipe would stop the server.
        process = subprocess.Popen(
            command(port),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = ServerProcess(title, port, process.pid)
        try:
            if not _comes_up(f"http://{HOST}:{port}{ready}", process, patience_s):
                log.seek(0)
                raise LoadError(f"{title} did not start: {log.read()[-1500:].strip()}")
            yield server
        finally:
            _stop(process)


def _share(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        memory = process.memory_full_info()
        # Only Linux knows proportional sizes.
        return int(getattr(memory, "pss", memory.uss))
    return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def _comes_up(url: str, process: subprocess.Popen[bytes], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    with httpx.Client(trust_env=False) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(url).is_success:
                    return True
            time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = _tree(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        # What is left of the group: servers leave workers behind that still hold the port or a core.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(family, STOP_S)


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []
