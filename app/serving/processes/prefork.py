"""A zygote forked from the program itself, which need not import anything again; and one that is another program."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import app
from app.serving.processes import zygote


class ZygoteProcess(NamedTuple):
    """A zygote that waits for its settings, and this end of its control socket."""

    pid: int
    control: socket.socket

    def end(self) -> None:
        """Kill the process, and wait for its end."""
        self.control.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def fork_zygote() -> ZygoteProcess:
    """Fork a zygote, which shares the memory of all that was imported. Only for a program without threads so far."""
    near_end, far_end = socket.socketpair()
    pid = os.fork()
    if pid:
        far_end.close()
        return ZygoteProcess(pid, near_end)
    try:
        os.setsid()  # ctrl-C reaches the front alone
        descriptor = far_end.detach()
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, max(descriptor + 1, *map(int, os.listdir("/proc/self/fd"))) + 1)
        zygote.main(descriptor)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)  # without what the front would do at its end


def start_zygote() -> ZygoteProcess:
    """Start a zygote as another program, for a front that has threads already."""
    near_end, far_end = socket.socketpair()
    path = [str(Path(app.__file__).parents[1]), *sys.path]
    program = f"import sys; sys.path[:] = {path!r}; from app.serving.processes import zygote; zygote.main({{}})"
    with far_end:
        process = subprocess.Popen(  # noqa: S603 - Python itself, with the program above
            [sys.executable, "-I", "-c", program.format(far_end.fileno())],
            pass_fds=[far_end.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    process.returncode = 0  # it is waited for by its process id
    return ZygoteProcess(process.pid, near_end)
