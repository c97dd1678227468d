"""`renorm streams` and `renorm reset`: what a running server remembers, and making it forget."""

from __future__ import annotations

import json as json_text
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.predict import Key, Url, explained
from app.cli.settings import BAD_OPTION, fail
from app.cli.tables import show

if TYPE_CHECKING:
    from app.schemas import StreamState

STREAMS_EXAMPLES = """\
Examples:

* `renorm streams`

* `renorm streams --url http://lab.example:8000 --key KEY`

* `renorm streams --json | jq -r '.streams[] | select(.drift > 0.3) | .stream'`
"""

RESET_EXAMPLES = """\
Examples:

* `renorm reset camera-7`

* `renorm reset camera-7 --strategy adabn`

* `renorm reset --all --yes`
"""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the server answers it.")]
Stream = Annotated[str | None, typer.Argument(help="The stream to forget.", metavar="STREAM", show_default=False)]
Strategy = Annotated[
    str | None, typer.Option("--strategy", help="Forget what was learned with this one alone.", metavar="NAME")
]
All = Annotated[bool, typer.Option("--all", help="Forget every stream.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def streams(url: Url = "http://127.0.0.1:8000", key: Key = None, json: Json = False) -> None:
    """Show what a running server remembers: its streams, the last used first."""
    with explained():
        from app.client import Client

        with Client(url, key=key) as client:
            found = client.streams()
    if json:
        typer.echo(found.model_dump_json(indent=2))
        return
    count = len({state.stream for state in found.streams})
    full = f"{found.bytes:,} of {found.capacity_bytes:,} bytes, {found.evictions} evicted so far"
    if not count:
        typer.echo(f"{url} remembers no stream: one begins with its first request ({full}).")
        return
    headers = ["stream", "strategy", "steps", "images", "drift", "adaptation", "bytes", "last used"]
    rows = [_row(state) for state in found.streams]
    show(f"Streams of {url}", headers, rows, right=[2, 3, 4, 5, 6, 7])
    typer.echo(f"{count:,} stream{'s' * (count != 1)}, {full}")


def reset(
    stream: Stream = None,
    strategy: Strategy = None,
    all_streams: All = False,
    yes: Yes = False,
    url: Url = "http://127.0.0.1:8000",
    key: Key = None,
) -> None:
    """Make a running server forget what a stream has learned, or what all have."""
    if (stream is None) != all_streams:
        fail("name one stream to forget, or --all", status=BAD_OPTION)
    if all_streams and not yes:
        typer.confirm(f"Forget all that the streams of {url} have learned?", abort=True)
    with explained():
        from app.client import Client

        with Client(url, key=key) as client:
            count = client.reset(stream, strategy)
    subject = f"stream {json_text.dumps(stream)}" if stream is not None else "all streams"
    forgot = f"Forgot {count} state{'s' * (count != 1)}" if count else "Nothing was remembered"
    typer.echo(f"{forgot} of {subject}.")


def _row(state: StreamState) -> list[str]:
    numbers = [_number(state.drift), _number(state.adaptation), f"{state.bytes:,}", _age(state.age_s)]
    return [state.stream, state.strategy, f"{state.steps:,}", f"{state.images:,}", *numbers]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
