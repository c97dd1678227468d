"""Errors on shifted streams, over HTTP: post a corruption's images in file order, batch by batch, strategy by strategy.

    python benchmarks/shifted_stream.py --serve --data DIR
    python benchmarks/shifted_stream.py --url http://127.0.0.1:8000 --data DIR --corruptions fog clean \\
        --strategies source adabn 'alpha_bn:{"prior": 16}' --batch 50 --out results.md

DIR holds <corruption>.npy, uint8 [N, 32, 32, 3], and labels.npy, as CIFAR-10-C does. Every corruption is a stream of
its own for every strategy, and begins as a new stream. Where the server has an admin key, set RENORM_ADMIN_KEY too.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from error_table import Choice, Score, Scores, comma_separated, markdown, parse_choice, rows
from local_server import local_server
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from stream_client import ServerError, StreamClient, encode

FORMATS = {".md": markdown, ".csv": comma_separated}


class Plan(NamedTuple):
    """What to send: which rows of which corruptions, with which strategies, how many images a request."""

    data: Path
    corruptions: list[str]
    choices: list[Choice]
    batch: int
    skip: int
    limit: int | None
    by_class: bool
    prefix: str


def find_corruptions(data: Path, wanted: Sequence[str]) -> list[str]:
    """The corruptions that ``wanted`` means in this folder; ``all`` is every one that is there.

    Raises:
        FileNotFoundError: the folder, its labels or a corruption are missing; the message lists what is there.
    """
    if not (data / "labels.npy").exists():
        raise FileNotFoundError(f"no labels.npy in {data}: expected a folder laid out as CIFAR-10-C")
    there = sorted(path.stem for path in data.glob("*.npy") if path.stem != "labels")
    named = [name for word in wanted for name in (there if word == "all" else [word])]
    missing = [name for name in named if name not in there]
    if missing or not named:
        raise FileNotFoundError(f"no {', '.join(missing) or 'corruption'} in {data}: there are {', '.join(there)}")
    return list(dict.fromkeys(named))


def read(plan: Plan, corruption: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The chosen rows of one corruption, images ``[n, h, w, 3]`` and labels ``[n]``.

    Raises:
        ValueError: the file holds something else, or no row is left.
    """
    images = np.load(plan.data / f"{corruption}.npy", mmap_mode="r")
    labels = np.load(plan.data / "labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{corruption}.npy holds {images.dtype} {list(images.shape)} and labels.npy {list(labels.shape)}: "
            "expected uint8 [N, h, w, 3] and [N]"
        )
    end = None if plan.limit is None else plan.skip + plan.limit
    chosen = slice(plan.skip, end)
    if len(labels[chosen]) == 0:
        raise ValueError(f"no rows are left of the {len(labels)} in {corruption}.npy: --skip fewer")
    # Stable: within a class images stay in file order.
    order = np.argsort(labels[chosen], kind="stable") if plan.by_class else slice(None)
    return np.asarray(images[chosen])[order], labels[chosen].astype(np.int64)[order]


def run(client: StreamClient, plan: Plan, scores: Scores, progress: Progress) -> None:
    """Send everything and fill ``scores`` as streams end.

    Raises:
        ServerError: the server refused something, or went away.
        ValueError: a file holds something else than images; see `read`.
    """
    # Counted in images of all streams, so that the time left is that of the whole run.
    overall = progress.add_task("all streams", total=None)
    for done, corruption in enumerate(plan.corruptions):
        pixels, labels = read(plan, corruption)
        if done == 0:
            progress.update(overall, total=len(pixels) * len(plan.corruptions) * len(plan.choices))
        images = [encode(one) for one in pixels]
        for i, choice in enumerate(plan.choices):
            progress.update(overall, description=f"{corruption}, {choice.label}")
            stream = f"{plan.prefix}{corruption}-{i + 1}-{choice.strategy}"
            advance = partial(progress.advance, overall)
            scores[corruption, choice.label] = _send(client, stream, choice, images, labels, plan.batch, advance)


def _send(
    client: StreamClient,
    stream: str,
    choice: Choice,
    images: Sequence[bytes],
    labels: NDArray[np.int64],
    batch: int,
    advance: Callable[[int], None],
) -> Score:
    """One stream from its first image to its last."""
    client.reset(stream)
    wrong, seconds = 0, 0.0
    for at in range(0, len(images), batch):
        started = time.perf_counter()
        found = client.predict(images[at : at + batch], stream, choice.strategy, choice.params)
        seconds += time.perf_counter() - started
        wrong += int((np.array(found) != labels[at : at + batch]).sum())
        advance(len(found))
    return Score(len(images), wrong, seconds)


def report(plan: Plan, scores: Scores, out: Path | None) -> None:
    """Print the table, drawn in a terminal and as Markdown elsewhere, and write it to ``out``."""
    table = rows(plan.corruptions, [choice.label for choice in plan.choices], scores)
    if sys.stdout.isatty():
        drawn = Table(*table[0])
        for column in drawn.columns[1:]:
            column.justify = "right"
        for line in table[1:]:
            drawn.add_row(*line)
        Console().print(drawn)
    else:
        sys.stdout.write(markdown(table))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(FORMATS[out.suffix](table), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = made.add_mutually_exclusive_group()
    where.add_argument("--url", default="http://127.0.0.1:8000", help="the running server (default: %(default)s)")
    where.add_argument("--serve", action="store_true", help="start a server for the run, on a free port")
    made.add_argument("--serve-args", default="", metavar="ARGS", help='options of that server, such as "--threads 1"')
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of <corruption>.npy, labels.npy")
    made.add_argument("--corruptions", nargs="+", default=["all"], metavar="NAME", help="names, or all (the default)")
    made.add_argument(
        "--strategies",
        nargs="+",
        type=_choice,
        default=[Choice("source"), Choice("adabn")],
        metavar="NAME[:JSON]",
        help="default: source adabn; parameters follow a colon: 'alpha_bn:{\"prior\": 16}'",
    )
    made.add_argument("--batch", type=_positive, default=50, metavar="N", help="images per request (default: 50)")
    made.add_argument(
        "--order",
        choices=("file", "class"),
        default="file",
        help="file: as stored (default); class: one class after the other, the hardest order",
    )
    made.add_argument("--skip", type=_count, default=0, metavar="N", help="leave out the first N rows of each file")
    made.add_argument("--limit", type=_positive, metavar="N", help="send N rows of each file at most")
    made.add_argument("--streams-prefix", default="bench-", metavar="TEXT", help="of stream names (default: bench-)")
    made.add_argument("--out", type=_out, metavar="FILE", help="write the table to a .md or .csv file too")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    given = parser().parse_args(arguments)
    scores: Scores = {}
    by_class = given.order == "class"
    plan = Plan(given.data, [], given.strategies, given.batch, given.skip, given.limit, by_class, given.streams_prefix)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        plan = plan._replace(corruptions=find_corruptions(given.data, given.corruptions))
        with (
            _server(given) as url,
            StreamClient(url, os.environ.get("RENORM_ADMIN_KEY")) as client,
            Progress(*columns, console=Console(stderr=True)) as progress,
        ):
            progress.console.print(f"{client.ready()} at {url}")
            run(client, plan, scores, progress)
    except (ServerError, OSError, ValueError) as error:
        print(f"shifted_stream: {error}", file=sys.stderr)
        return 1
    finally:
        # What was found before an error or an interrupt is worth keeping.
        if scores:
            report(plan, scores, given.out)
    return 0


def _server(given: argparse.Namespace) -> AbstractContextManager[str]:
    return local_server(shlex.split(given.serve_args)) if given.serve else nullcontext(given.url)


def _choice(text: str) -> Choice:
    try:
        return parse_choice(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, not {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("expected at least 1")
    return int(text)


def _out(text: str) -> Path:
    if Path(text).suffix not in FORMATS:
        raise argparse.ArgumentTypeError(f"expected a file ending in {' or '.join(FORMATS)}, not {text!r}")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
