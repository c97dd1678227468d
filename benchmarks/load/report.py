"""A run of `python -m benchmarks.load` as tables: the targets first, then every figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.common import markdown
from benchmarks.load.plan import OURS, name_of
from benchmarks.load.results import LoadResults, LoadRow

Rows = list[list[str]]

ADDED_MS = 1.5
THROUGHPUT = 1.0
IDLE_PERCENT = 1.0

EXPLAINED = """\
`make load ARGS="--out docs"` (`benchmarks/load/`) writes this page; `load.json` next to it has every round.

- **Servers**: each runs in its own process on loopback and hosts the bundled ResNet-20. Other servers host the plain
  `model.eval()` with Renorm's preprocessing, without adaptation.
- **Images**: the same encoded images, in the fastest form for each server: Renorm the image itself (several as a form),
  LitServe a form or base64 in JSON, whichever is faster, MLServer base64 in JSON.
- **Rounds**: servers take turns while the others are stopped. A figure is the median of the rounds, a ratio the median
  of the ratios of the rounds.
- **Answers**: every answer is read and checked; an implausible one is an error.
- **Clients**: they run in a process of their own, on the same cores as the server, with an HTTP client that takes about
  12 µs per request.
"""

CLOSED = """\
Closed loop: each client sends its next request when the last one is answered, for a stream of its own unless noted.
Cells: images per second / median latency in ms / 99th percentile.
"""

OPEN = """\
Open loop: requests of one image, for 32 streams, are sent at random times (Poisson, the same for every server), also if
earlier ones are not answered yet. Latency counts from these times, so a server that falls behind cannot hide it (no
coordinated omission). Cells as above.
"""

TRIED = """\
All configurations of the other servers that were tried, under the heaviest load of single images (images per second)
and with one client (median ms). The other tables show the one with the highest throughput.
"""


def targets(results: LoadResults) -> Rows:
    """One row per target: what was measured, the bound, whether it holds."""
    return [
        ["what", "measured", "target", "reached"],
        _added(results),
        *_throughputs(results),
        _idle_share(results),
    ]


def loads(results: LoadResults, *, closed: bool) -> Rows:
    """One row per load, one column per contender."""
    measured = results.loads(closed=closed)
    names = dict.fromkeys(row.contender for row in results.rows if row.load in measured)
    contenders = sorted(names, key=lambda name: not name.startswith(OURS))
    rows = [["load", *contenders]]
    return rows + [
        [load.label, *(_cell(results.row(contender, load)) for contender in contenders)] for load in measured
    ]


def servers(results: LoadResults) -> Rows:
    """One row per server: what it takes while it idles, and for an image under the heaviest load."""
    rows = [["server", "idle CPU, % of a core", "memory, MB", "CPU per image, ms", "same answers as `source`"]]
    for name, idle in results.idle.items():
        load, contender = results.heaviest, name_of(results.strategy) if name == OURS else name
        row = load and results.row(contender, load)
        agreement = f"{100 * results.agreement[name]:.0f} %" if name in results.agreement else "-"
        rows.append([name, f"{idle.cpu:.1f}", f"{idle.memory / 1e6:.0f}", _number(row, "cpu_ms"), agreement])
    return rows


def tried(results: LoadResults) -> Rows:
    """One row per way to run a peer."""
    rows = [["peer", "run with", "images as", "many clients, images/s", "one client, ms"]]
    for trial in results.tried:
        cell = f"{trial.many.images_per_s:.0f}" + _errors(trial.many.errors)
        rows.append([trial.peer, trial.options, trial.body, cell, f"{trial.one.p50:.2f}" + _errors(trial.one.errors)])
    return rows


def page(results: LoadResults, picture: str) -> str:
    """The whole run as Markdown; ``picture`` is where the page finds it."""
    facts = "".join(f"- {name}: {value}\n" for name, value in results.machine.items())
    parts = ["# Load test: throughput and latency\n", facts, markdown(targets(results)), *_notes(results)]
    parts += [f"![Throughput and latency of each server]({picture})\n", EXPLAINED]
    for closed, heading, text in (
        (True, "Concurrent clients (closed loop)", CLOSED),
        (False, "Fixed request rates (open loop)", OPEN),
    ):
        if results.loads(closed=closed):
            parts += [f"## {heading}\n", text, markdown(loads(results, closed=closed))]
    parts += ["## Servers\n", markdown(servers(results))]
    if results.tried:
        parts += ["## Configurations of the other servers\n", TRIED, markdown(tried(results))]
    return "\n".join(parts)


def faults(results: LoadResults) -> list[str]:
    """The first error of everything that had errors."""
    return [
        f"{row.contender}, {row.load.label}: {row.errors} errors, the first: {fault}"
        for row in results.rows
        if (fault := next((tally.fault for tally in row.rounds if tally.errors), None)) is not None
    ]


def _added(results: LoadResults) -> list[str]:
    title = f"adding an idle server: one client, one image, {results.strategy}, p50 over the in-process call"
    addition, bound = results.addition, f"<= +{ADDED_MS} ms"
    if addition is None:
        return [title, "-", bound, "not measured"]
    return [title, f"{addition.added:+.2f} ms", bound, _yes(round(addition.added, 2) <= ADDED_MS)]


def _throughputs(results: LoadResults) -> Rows:
    load, renorm = results.heaviest, name_of(results.strategy)
    if load is None:
        return []
    rows = []
    for peer in ("LitServe", "MLServer"):
        for contender in (renorm, f"{renorm}, form"):
            ratio = results.ratio(contender, peer, load)
            title = f"throughput at {load.clients} clients, {contender}, against {peer} without adaptation"
            bound = f">= {THROUGHPUT:.1f}" if (contender, peer) == (renorm, "LitServe") else "-"
            if ratio is None and bound != "-":
                rows.append([title, "-", bound, "not measured"])
            elif ratio is not None:
                reached = _yes(round(ratio, 2) >= THROUGHPUT) if bound != "-" else ""
                rows.append([title, f"{ratio:.2f}", bound, reached])
    return rows


def _idle_share(results: LoadResults) -> list[str]:
    idle, bound = results.idle.get(OURS), f"< {IDLE_PERCENT:g} %"
    if idle is None:
        return ["idle CPU of the server", "-", bound, "not measured"]
    return ["idle CPU of the server", f"{idle.cpu:.1f} %", bound, _yes(idle.cpu < IDLE_PERCENT)]


def _cell(row: LoadRow | None) -> str:
    if row is None or not row.rounds:
        return "-"
    return " / ".join(_number(row, name) for name in ("images_per_s", "p50", "p99")) + _errors(row.errors)


def _number(row: LoadRow | None, name: str) -> str:
    value = math.nan if row is None or not row.rounds else row.middle(name)
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _errors(count: int) -> str:
    return f" ({count} errors)" if count else ""


def _notes(results: LoadResults) -> Sequence[str]:
    lines = [f"- not measured: {name}: {reason}\n" for name, reason in results.notes.items()]
    return ["".join(lines + [f"- {fault}\n" for fault in faults(results)])] if lines or faults(results) else []


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"
