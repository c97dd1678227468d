"""`renorm evaluate`: which strategy is best on a model and its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options as o
from app.cli.evaluate.prepare import Asked
from app.cli.evaluate.run import run
from app.cli.settings import BAD_OPTION, fail, settings_from

EVALUATE_EXAMPLES = """\
Examples:

* `renorm evaluate --data cifar10c --output results`

* `renorm evaluate --data cifar10c --output results --strategies source,adabn:momentum=0.2,unmix_tns --batch-size 1,64`

* `renorm evaluate --data imagenet-c --model timm:resnet50 --output results --protocol single,mixed --order iid,sorted`

* `renorm evaluate --data cifar10c --output full --protocol continual,clean --seeds 3 --limit 0 --processes 8`

* `renorm evaluate --data cifar10c --output served --url http://127.0.0.1:8000 --streams results/streams`

A strategy is NAME or NAME:PARAMETER=VALUE,... A call with the same settings goes on where the last one was stopped, and
may add strategies, protocols, orders, batch sizes and seeds.
"""

_NETWORK = ("model", "weights", "weights_key", "labels", "mean", "std", "size")
_HOSTING = (*_NETWORK, "device", "dtype", "threads", "temperatures")
_WHAT, _HOW, _SERVER = "What to run", "How to run it", "A running server"


def _option(*names: str, help: str, panel: str = _WHAT, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


_LISTED = "Several with commas, or repeated."
Data = Annotated[
    Path, _option("--data", help="CORRUPTION.npy and labels.npy, or folders DOMAIN/CLASS/.", metavar="FOLDER")
]
Output = Annotated[Path, _option("--output", help="Where results go, and are kept if stopped.", metavar="FOLDER")]
Anew = Annotated[bool, _option("--anew", help="Throw away what --output holds of an evaluation with other settings.")]
Strategies = Annotated[
    list[str] | None, _option("--strategies", help=f"{_LISTED} By default all, as they are.", metavar="NAMES")
]
Protocols = Annotated[
    list[str] | None,
    _option(
        "--protocol",
        help="single, continual, mixed, gradual, recurring, clean: how domains follow each other. "
        f"{_LISTED} By default continual, and clean where there are clean images.",
        metavar="NAMES",
    ),
]
Orders = Annotated[
    list[str] | None,
    _option(
        "--order", help=f"iid, dirichlet:NUMBER, sorted, ptta. {_LISTED} By default iid,dirichlet:0.1.", metavar="NAMES"
    ),
]
Batches = Annotated[
    list[str] | None,
    _option("--batch-size", help=f"Images in a request. {_LISTED} By default 1,64.", metavar="NUMBERS"),
]
Seeds = Annotated[int | None, _option("--seeds", help="Streams of each kind, 1 by default.", min=1, metavar="NUMBER")]
Limit = Annotated[
    int | None, _option("--limit", help="Images of each domain, 300 by default; 0 for all.", min=0, metavar="NUMBER")
]
Visits = Annotated[
    int | None, _option("--visits", help="Rounds of the recurring protocol, 5 by default.", min=1, metavar="NUMBER")
]
Severity = Annotated[int, _option("--severity", help="Of the corruptions.", min=1, max=5, metavar="NUMBER")]
Domains = Annotated[
    list[str] | None, _option("--domains", help=f"Only these corruptions. {_LISTED} By default all.", metavar="NAMES")
]
SkipUnknown = Annotated[
    bool, _option("--skip-unknown", help="Leave out images of classes that the model does not have.")
]
Replayed = Annotated[
    Path | None, _option("--streams", help="Saved streams to run, instead of making new ones.", metavar="FOLDER")
]
Together = Annotated[
    int, _option("--together", help="Streams that share forwards.", panel=_HOW, min=1, metavar="NUMBER")
]
Processes = Annotated[
    int, _option("--processes", help="Processes, each on one core.", panel=_HOW, min=1, metavar="NUMBER")
]
Speed = Annotated[bool, _option("--speed/--no-speed", help="Measure images per second afterwards.", panel=_HOW)]
Url = Annotated[str | None, _option("--url", help="Ask this running server.", panel=_SERVER, metavar="URL")]
Key = Annotated[str | None, _option("--key", help="Key, if it needs one.", panel=_SERVER, envvar="RENORM_KEY")]


@o.with_settings(*_HOSTING)
def evaluate(
    data: Data,
    output: Output,
    strategies: Strategies = None,
    protocol: Protocols = None,
    order: Orders = None,
    batch_size: Batches = None,
    seeds: Seeds = None,
    limit: Limit = None,
    visits: Visits = None,
    severity: Severity = 5,
    domains: Domains = None,
    skip_unknown: SkipUnknown = False,
    anew: Anew = False,
    streams: Replayed = None,
    together: Together = 32,
    processes: Processes = 1,
    speed: Speed = True,
    url: Url = None,
    key: Key = None,
    config: o.ConfigOption = None,
    **options: Any,
) -> None:
    """Run strategies on the streams that you will meet, and report where each helps and where it hurts."""
    run(_asked(locals()))


def _asked(given: Mapping[str, Any]) -> Asked:
    """The options as they are meant: lists split, defaults in their places."""
    options, limit = given["options"], given["limit"]
    if given["url"] is not None:
        _check_for_server(options, given["processes"])
    if given["streams"] is not None:
        _check_for_replay(given)
    as_they_are = (
        "data",
        "output",
        "strategies",
        "severity",
        "skip_unknown",
        "anew",
        "streams",
        "together",
        "processes",
        "speed",
        "url",
        "key",
    )
    return Asked(
        **{name: given[name] for name in as_they_are},
        protocols=_words(given["protocol"]),
        domains=_words(given["domains"]),
        orders=_words(given["order"]) or ["iid", "dirichlet:0.1"],
        batches=_sizes(given["batch_size"]) or [1, 64],
        seeds=given["seeds"] or 1,
        limit=None if limit == 0 else limit or 300,
        visits=given["visits"] or 5,
        settings=settings_from({**options, "config": given["config"]}),
    )


def _check_for_server(options: Mapping[str, Any], processes: int) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        fail(f"--{given[0]} is for a model in this process: leave it out, or leave out --url", status=BAD_OPTION)
    if processes > 1:
        fail("--processes is for a model in this process: with --url the server computes", status=BAD_OPTION)


def _check_for_replay(given: Mapping[str, Any]) -> None:
    for name in ("protocol", "order", "seeds", "limit", "visits", "domains"):
        if given[name] is not None:
            fail(f"--streams says what is shown already: leave out --{name}", status=BAD_OPTION)


def _words(texts: Iterable[str] | None) -> list[str]:
    return [word for text in texts or () for word in text.replace(",", " ").split()]


def _sizes(texts: Iterable[str] | None) -> list[int]:
    words = _words(texts)
    wrong = [word for word in words if not word.isdecimal() or int(word) < 1]
    if wrong:
        fail(f"--batch-size must be whole numbers of 1 or more, such as 1,64, not {wrong[0]!r}", status=BAD_OPTION)
    return [int(word) for word in words]
