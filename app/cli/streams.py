"""`renorm streams` and `renorm reset`: list the streams of a running server, and reset them."""

from __future__ import annotations

import json as json_text
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import JsonOption
from app.cli.predict import Key, Url, exit_on_errors
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

Stream = Annotated[str | None, typer.Argument(help="Stream to reset.", metavar="STREAM", show_default=False)]
Strategy = Annotated[
    str | None, typer.Option("--strategy", help="Reset only the states of this strategy.", metavar="NAME")
]
All = Annotated[bool, typer.Option("--all", help="Reset all streams.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def streams(url: Url = "http://127.0.0.1:8000", key: Key = None, json: JsonOption = False) -> None:
    """List the streams of a running server, the last used first."""
    with exit_on_errors():
        from app.client import Client

        with Client(url, key=key) as client:
            response = client.streams()
    if json:
        typer.echo(response.model_dump_json(indent=2))
        return
    count = len({state.stream for state in response.streams})
    full = f"{response.bytes:,} of {response.capacity_bytes:,} bytes, {response.evictions} evicted so far"
    if not count:
        typer.echo(f"{url} has no streams: one is created by its first request ({full}).")
        return
    headers = ["stream", "strategy", "steps", "images", "drift", "adaptation", "bytes", "last used"]
    rows = [_row(state) for state in response.streams]
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
    """Reset one stream of a running server, or all."""
    if (stream is None) != all_streams:
        fail("name one stream to reset, or use --all", status=BAD_OPTION)
    if all_streams and not yes:
        typer.confirm(f"Reset all streams of {url}?", abort=True)
    with exit_on_errors():
        from app.client import Client

        with Client(url, key=key) as client:
            count = client.reset(stream, strategy)
    subject = f"stream {json_text.dumps(stream)}" if stream is not None else "all streams"
    typer.echo(f"Reset {count} state{'s' * (count != 1)} of {subject}.")


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
