"""Other projects' clients against Renorm: which of their calls work.

    python -m benchmarks.clients                              # all clients, on a server started for the run
    python -m benchmarks.clients --only kserve                # one of them
    python -m benchmarks.clients --url http://127.0.0.1:8000  # a server that runs, and goes on running
    python -m benchmarks.clients --out docs/other-clients.md  # write the page as well

Each client runs in an environment of its own, which the first run makes (--peers), because their packages cannot be
installed beside each other. Progress goes to standard error, the table to standard output; the exit status is 1 if
any call failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Timer

from benchmarks.clients.calls import ClientCall
from benchmarks.load.hosting import START_S
from benchmarks.load.peers import CACHE, PEERS, Guest, environment
from benchmarks.load.servers import HOST, ROOT, LoadError, started

CLIENTS = (
    Guest("kserve", "KServe", ("kserve==0.21.0",)),
    # The environment that `python -m benchmarks.load` runs its server from has its client too.
    *(peer for peer in PEERS if peer.name == "mlserver"),
)
PATIENCE_S = 180.0
PAGE = """\
# Tested KServe and MLServer clients

This page lists the calls of KServe's and MLServer's clients that were tested against Renorm. NVIDIA's clients are part
of the project's tests, and its load generator has [its own page](perf_analyzer.md). To repeat the test:

```sh
make clients ARGS="--out docs/other-clients.md"
```

This starts a server with the bundled network, creates an environment for each client (`benchmarks/clients/`), and makes
its calls: KServe's `InferenceRESTClient` with `RESTConfig(protocol="v2")`, and MLServer's batch program `mlserver
infer`.

- *as POST /v1/predict*: the probabilities are equal to those of Renorm's own API, to 1e-5, for the same images as the
  same step of another new stream.
- *as described*: the project's own type of this name parsed the answer with this status.

{table}
{passed} of {tried} calls passed.
"""


def program(client: Guest) -> list[str]:
    """The arguments that make a Python run a client's program.

    As a module: a script has its own folder on its path, where `mlserver.py` would hide the package MLServer.
    """
    return ["-m", f"benchmarks.clients.{client.name}"]


def trying(client: Guest, url: str, folder: Path) -> Iterator[ClientCall]:
    """Install a client unless it is there, run its program, and pass on each call as soon as it was tried.

    The last one says so where a client could not be installed, or ended with an error.
    """
    try:
        python = environment(client, folder)
    except LoadError as error:
        yield ClientCall("install", False, str(error))
        return
    command = [str(python), *program(client), url]
    # The server is on this machine, whatever proxy leads elsewhere.
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": HOST, "no_proxy": HOST}
    # A file, not a pipe: nobody reads it meanwhile.
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log, text=True)
        with child as process, _ended_in_time(process):
            for line in process.stdout or ():
                yield ClientCall(**json.loads(line))
        log.seek(0)
        if process.returncode != 0:
            last = log.read().strip().rpartition("\n")[2]
            yield ClientCall("its program", False, f"ended with status {process.returncode}: {last}")


def tried(clients: Sequence[Guest], url: str, folder: Path) -> list[tuple[Guest, ClientCall]]:
    """Try every call of these clients; each is told on standard error."""
    calls = []
    for client in clients:
        print(f"{version(client)}: starting (the first run installs it into {folder})", file=sys.stderr)
        for call in trying(client, url, folder):
            print(f"{version(client)}: {call.name}: {_word(call)}", file=sys.stderr)
            calls.append((client, call))
    return calls


def version(client: Guest) -> str:
    """Its title and version."""
    return f"{client.title} {client.requirements[0].partition('==')[2]}"


def table(calls: Sequence[tuple[Guest, ClientCall]]) -> str:
    """Every call, whether it passed, and what came or why not, as Markdown."""
    lines = ["| client | call | result | answer |", "| --- | --- | --- | --- |"]
    for client, call in calls:
        detail = " ".join(call.detail.split()).replace("|", "\\|")
        lines.append(f"| {version(client)} | {call.name} | {_word(call)} | {detail} |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m benchmarks.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [client.name for client in CLIENTS]
    cli.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=f"clients to try, of {' '.join(names)}"
    )
    cli.add_argument("--url", help="URL of a running server (by default one is started)")
    cli.add_argument(
        "--peers", type=Path, default=CACHE, metavar="FOLDER", help="folder of the clients' environments (%(default)s)"
    )
    cli.add_argument("--out", type=Path, metavar="FILE", help="write the page with the table to this file")
    return cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the clients; the exit status."""
    options = parser().parse_args(arguments)
    clients = [client for client in CLIENTS if client.name in options.only]
    try:
        with nullcontext(options.url.rstrip("/")) if options.url else _renorm() as url:
            calls = tried(clients, url, options.peers)
    except LoadError as error:
        print(f"clients: {error}", file=sys.stderr)
        return 1
    passed = sum(call.passed for _, call in calls)
    print(f"\n{table(calls)}\n{passed} of {len(calls)} calls passed.")
    if options.out is not None:
        options.out.write_text(PAGE.format(table=table(calls), passed=passed, tried=len(calls)), encoding="utf-8")
        print(f"wrote {options.out}")
    return 0 if passed == len(calls) else 1


@contextmanager
def _renorm() -> Iterator[str]:
    print("renorm: starting", file=sys.stderr)
    with started(
        "renorm",
        lambda port: [sys.executable, "-m", "app", "serve", "--host", HOST, "--port", str(port)],
        "/readyz",
        START_S,
        {},
    ) as server:
        yield f"http://{HOST}:{server.port}"


@contextmanager
def _ended_in_time(process: subprocess.Popen[str]) -> Iterator[None]:
    alarm = Timer(PATIENCE_S, process.kill)
    alarm.start()
    try:
        yield
    except BaseException:
        # Whoever stopped reading, the program must not wait for it.
        process.kill()
        raise
    finally:
        alarm.cancel()


def _word(call: ClientCall) -> str:
    return "passed" if call.passed else "**failed**"


if __name__ == "__main__":
    sys.exit(main())
