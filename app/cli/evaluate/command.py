"""`renorm evaluate`: compare strategies on a model and a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options as o
from app.cli.evaluate.prepare import EvaluateOptions
from app.cli.evaluate.run import run
from app.cli.settings import BAD_OPTION, fail, settings_from

EVALUATE_EXAMPLES = """\
Examples:

* `renorm evaluate --data cifar10c --output results`

* `renorm evaluate --data cifar10c --output results --strategies source,adabn:momentum=0.2,unmix_tns --batch-size 1,64`

* `renorm evaluate --data imagenet-c --model timm:resnet50 --output results --protocol single,mixed --order iid,sorted`

* `renorm evaluate --data cifar10c --output camera --protocol continual,clean --order stretches:200,one_class`

* `renorm evaluate --data cifar10c --output walk --protocol walk --difficulty hard --step-images 100`

* `renorm evaluate --data cifar10c --output full --protocol continual,clean --seeds 3 --limit 0 --processes 8`

* `renorm evaluate --data cifar10c --output served --url http://127.0.0.1:8000 --streams results/streams`

A strategy is NAME or NAME:PARAMETER=VALUE,... The same command resumes an interrupted evaluation, and may add
strategies, protocols, orders, batch sizes and seeds.
"""

_DATA, _RUN, _SERVER = "Streams and strategies", "Execution", "Running server"


def _option(*names: str, help: str, panel: str = _DATA, **kwargs: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **kwargs)


_LIST = "Comma-separated, or repeated."
Data = Annotated[
    Path, _option("--data", help="CORRUPTION.npy and labels.npy, or folders DOMAIN/CLASS/.", metavar="FOLDER")
]
Output = Annotated[Path, _option("--output", help="Folder of results, to resume from too.", metavar="FOLDER")]
Overwrite = Annotated[bool, _option("--anew", help="Overwrite results of other settings in --output.")]
Strategies = Annotated[
    list[str] | None, _option("--strategies", help=f"{_LIST} All by default, with default parameters.", metavar="NAMES")
]
Protocols = Annotated[
    list[str] | None,
    _option(
        "--protocol",
        help="single, continual, mixed, gradual, recurring, walk, clean: the order of domains. "
        f"{_LIST} continual by default, and clean where there are clean images.",
        metavar="NAMES",
    ),
]
Orders = Annotated[
    list[str] | None,
    _option(
        "--order",
        help="iid, dirichlet:NUMBER, sorted, ptta, stretches:IMAGES, one_class: the order of the images of a domain. "
        f"{_LIST} iid,dirichlet:0.1 by default.",
        metavar="NAMES",
    ),
]
Batches = Annotated[
    list[str] | None, _option("--batch-size", help=f"Images per request. {_LIST} 1,64 by default.", metavar="NUMBERS")
]
Seeds = Annotated[int | None, _option("--seeds", help="Number of random seeds, 1 by default.", min=1, metavar="NUMBER")]
Limit = Annotated[
    int | None,
    _option(
        "--limit",
        help="Images per domain, 300 by default; 0 for all. Fewer images make shorter runs of one class.",
        min=0,
        metavar="NUMBER",
    ),
]
Visits = Annotated[
    int | None, _option("--visits", help="Rounds of the recurring protocol, 5 by default.", min=1, metavar="NUMBER")
]
Difficulty = Annotated[
    str | None,
    _option(
        "--difficulty",
        help="easy, medium or hard, of the walk protocol: source keeps 80, 60 or 40 % of its accuracy above chance. "
        "medium by default.",
        metavar="NAME",
    ),
]
StepImages = Annotated[
    int | None,
    _option(
        "--step-images",
        help="Images per step of the walk protocol, which has 16 steps from one corruption to the next. By default "
        "these show as many images as a domain.",
        min=1,
        metavar="NUMBER",
    ),
]
Severity = Annotated[int, _option("--severity", help="Severity of the corruptions.", min=1, max=5, metavar="NUMBER")]
Domains = Annotated[
    list[str] | None, _option("--domains", help=f"Only these corruptions. {_LIST} All by default.", metavar="NAMES")
]
SkipUnknown = Annotated[bool, _option("--skip-unknown", help="Skip images of classes that the model does not have.")]
Replayed = Annotated[
    Path | None, _option("--streams", help="Saved streams to replay, instead of generating new ones.", metavar="FOLDER")
]
Concurrency = Annotated[
    int, _option("--together", help="Streams run concurrently.", panel=_RUN, min=1, metavar="NUMBER")
]
Processes = Annotated[
    int, _option("--processes", help="Number of processes, each on one core.", panel=_RUN, min=1, metavar="NUMBER")
]
Speed = Annotated[bool, _option("--speed/--no-speed", help="Measure images per second afterwards.", panel=_RUN)]
Url = Annotated[str | None, _option("--url", help="Evaluate this running server.", panel=_SERVER, metavar="URL")]
Key = Annotated[str | None, _option("--key", help="API key of the server.", panel=_SERVER, envvar="RENORM_KEY")]


@o.with_settings(*o.HOSTING)
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
    difficulty: Difficulty = None,
    step_images: StepImages = None,
    severity: Severity = 5,
    domains: Domains = None,
    skip_unknown: SkipUnknown = False,
    anew: Overwrite = False,
    streams: Replayed = None,
    concurrency: Concurrency = 32,
    processes: Processes = 1,
    speed: Speed = True,
    url: Url = None,
    key: Key = None,
    config: o.ConfigOption = None,
    **options: Any,
) -> None:
    """Evaluate strategies on streams of shifted images, and report where each lowers or raises the error."""
    run(_evaluate_options(locals()))


def _evaluate_options(arguments: Mapping[str, Any]) -> EvaluateOptions:
    """Return the parsed options: lists split, defaults filled in."""
    options, limit = arguments["options"], arguments["limit"]
    if arguments["url"] is not None:
        _check_for_server(options, arguments["processes"])
    if arguments["streams"] is not None:
        _check_for_replay(arguments)
    unchanged = (
        *("data", "output", "strategies", "severity", "skip_unknown", "anew"),
        *("streams", "concurrency", "processes", "speed", "url", "key"),
    )
    return EvaluateOptions(
        **{name: arguments[name] for name in unchanged},
        protocols=_words(arguments["protocol"]),
        domains=_words(arguments["domains"]),
        orders=_words(arguments["order"]) or ["iid", "dirichlet:0.1"],
        batches=_sizes(arguments["batch_size"]) or [1, 64],
        seeds=arguments["seeds"] or 1,
        limit=None if limit == 0 else limit or 300,
        visits=arguments["visits"] or 5,
        difficulty=arguments["difficulty"] or "medium",
        step_images=arguments["step_images"],
        settings=settings_from({**options, "config": arguments["config"]}),
    )


def _check_for_server(options: Mapping[str, Any], processes: int) -> None:
    names = [name for name, value in options.items() if value is not None]
    if names:
        fail(f"--{names[0]} cannot be used with --url: leave it out, it configures a local model", status=BAD_OPTION)
    if processes > 1:
        fail("--processes cannot be used with --url: leave it out, the server computes", status=BAD_OPTION)


def _check_for_replay(arguments: Mapping[str, Any]) -> None:
    for name in ("protocol", "order", "seeds", "limit", "visits", "difficulty", "step_images", "domains"):
        if arguments[name] is not None:
            fail(
                f"--{name.replace('_', '-')} cannot be used with --streams: leave it out, the streams are saved",
                status=BAD_OPTION,
            )


def _words(texts: Iterable[str] | None) -> list[str]:
    return [word for text in texts or () for word in text.replace(",", " ").split()]


def _sizes(texts: Iterable[str] | None) -> list[int]:
    words = _words(texts)
    wrong = [word for word in words if not word.isdecimal() or int(word) < 1]
    if wrong:
        fail(f"--batch-size must be positive integers, such as 1,64, not {wrong[0]!r}", status=BAD_OPTION)
    return [int(word) for word in words]
