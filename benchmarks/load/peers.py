"""The servers that Renorm is compared with, each in an environment of its own beside this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.payloads import Dialect
from benchmarks.load.servers import LoadError

CACHE = Path.home() / ".cache" / "renorm-peers"
INSTALL_S = 600


@dataclass(frozen=True)
class PeerOptions:
    """One way to run a peer: requests in a batch at most, seconds it waits for them, processes that compute."""

    batch: int
    timeout: float
    workers: int
    zmq: bool = False

    @property
    def label(self) -> str:
        """The name of these options in tables."""
        batching = f"batches of {self.batch} within {1000 * self.timeout:g} ms" if self.batch > 1 else "no batching"
        workers = f", {self.workers} worker{'s' * (self.workers > 1)}" if self.workers else ", in one process"
        return batching + workers + ", ZeroMQ" * self.zmq


@dataclass(frozen=True)
class Guest:
    """Another project's package, in an environment of its own."""

    name: str
    title: str
    requirements: Sequence[str]  # itself first


@dataclass(frozen=True)
class Peer(Guest):
    """A server to compare with, and the ways to run it of which the best is measured, the likeliest first."""

    ready: str
    options: Sequence[PeerOptions]
    bodies: Sequence[str]

    def dialects(self) -> list[Dialect]:
        """The forms in which it takes images."""
        return [Dialect(self.name, body) for body in self.bodies]

    def command(self, python: Path, options: PeerOptions, threads: int) -> Callable[[int], list[str]]:
        """Return a function from a port to the command that runs the peer there."""
        params = json.dumps({**vars(options), "threads": threads})
        return lambda port: [str(python), "-m", f"benchmarks.load.peer_{self.name}", str(port), params]


PEERS = (
    Peer(
        "litserve",
        "LitServe",
        ("litserve==0.2.19",),
        "/health",
        (
            PeerOptions(16, 0.002, 2),
            PeerOptions(32, 0.002, 2, zmq=True),
            PeerOptions(32, 0.002, 1),
            PeerOptions(32, 0.002, 1, zmq=True),
            PeerOptions(32, 0.005, 1),
            PeerOptions(1, 0.0, 1),
            PeerOptions(1, 0.0, 2, zmq=True),
        ),
        ("json", "form"),
    ),
    Peer(
        "mlserver",
        "MLServer",
        # Its workers ask uvloop for an event loop that newer versions no longer make.
        ("mlserver==1.7.1", "uvloop==0.21.0"),
        "/v2/models/network/ready",
        (PeerOptions(32, 0.002, 0), PeerOptions(32, 0.002, 1), PeerOptions(16, 0.002, 2), PeerOptions(1, 0.0, 0)),
        ("json",),
    ),
)


def environment(peer: Guest, folder: Path) -> Path:
    """The Python of a package's environment, which is made in ``folder`` unless it is there.

    It uses this environment's packages, torch above all, and adds the package's own where they differ.

    Raises:
        LoadError: it cannot be installed; the message says why.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = folder / f"{peer.name}-{version}"
    python, record = home / "bin" / "python", home / "made-of"
    host = sysconfig.get_path("purelib")
    parts = "\n".join([host, *peer.requirements])
    if record.is_file() and record.read_text(encoding="utf-8") == parts:
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(home)], peer)
    # Behind the peer's own packages on the path, so that those win.
    (home / "lib" / version / "site-packages" / "host.pth").write_text(host, encoding="utf-8")
    _run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], peer)
    record.write_text(parts, encoding="utf-8")
    return python


def _run(command: Sequence[str], peer: Guest) -> None:
    # The project's pins are not the peers'.
    variables = {
        name: value for name, value in os.environ.items() if name not in {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}
    }
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadError(f"{peer.title} could not be installed: {error}") from error
    if done.returncode != 0:
        raise LoadError(f"{peer.title} could not be installed: {done.stderr.strip()[-400:]}")
