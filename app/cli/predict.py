"""`renorm predict`: send images to a running server, and show its predictions."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail
from app.cli.tables import show

if TYPE_CHECKING:
    from app.client import Answer, ImagePrediction

PREDICT_EXAMPLES = """\
Examples:

* `renorm predict image.jpg`

* `renorm predict frames/ --stream camera-7 --batch 16`

* `renorm predict *.png --strategy unmix_tns --params '{"momentum": 0.2}' --top-k 3`

* `renorm predict frames/ --explain`

* `renorm predict frames/ --json | jq -r '[.file, .label] | @tsv'`
"""

_REQUEST, _SERVER = "Request", "Server"
_EXAMPLE = '{"momentum": 0.2}'


def _option(*names: str, help: str, panel: str = _REQUEST, **kwargs: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **kwargs)


Images = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGES...")]
Stream = Annotated[str, _option("--stream", help="Stream that the images belong to.", metavar="NAME")]
Strategy = Annotated[str | None, _option("--strategy", help="Strategy; by default the server's.", metavar="NAME")]
Params = Annotated[str | None, _option("--params", help="Hyperparameters, as a JSON object.", metavar="JSON")]
Update = Annotated[bool, _option("--update/--no-update", help="Update the stream's state with the images.")]
Explain = Annotated[bool, _option("--explain", help="Say what the stream's next answer leans on and why.")]
TopK = Annotated[int | None, _option("--top-k", help="Number of classes per image.", min=1, metavar="NUMBER")]
Batch = Annotated[int, _option("--batch", help="Images per request, which is one step.", min=1, metavar="NUMBER")]
Url = Annotated[str, _option("--url", help="Address of the server.", panel=_SERVER, envvar="RENORM_URL")]
Key = Annotated[str | None, _option("--key", help="API key of the server.", panel=_SERVER, envvar="RENORM_KEY")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON per image.")]


def predict(
    images: Images,
    stream: Stream = "default",
    strategy: Strategy = None,
    params: Params = None,
    update: Update = True,
    explain: Explain = False,
    top_k: TopK = None,
    batch: Batch = 8,
    url: Url = "http://127.0.0.1:8000",
    key: Key = None,
    json: Json = False,
) -> None:
    """Send images to a running server in order, and show its predictions; their stream adapts to them.

    Files that fail are reported and skipped; the exit status is then 1.
    """
    options = {"stream": stream, "strategy": strategy, "params": _object(params), "update": update, "top_k": top_k}
    options["explain"] = explain
    with exit_on_errors():
        files, bad = _files(images), list[Path]()
        answers = _answers(files, batch, {"url": url, "key": key}, options, bad)
        if json:
            _print_lines(answers)
        else:
            _print_table(answers, ranked=top_k is not None and top_k > 1)
        if bad:
            summary = f"{len(bad)} of {len(files)} files failed" if len(files) > 1 else ""
            fail(*([summary] if summary else []), status=CANNOT_RUN)


def _object(params: str | None) -> dict[str, Any] | None:
    if params is None:
        return None
    try:
        value = json_text.loads(params)
    except ValueError as error:
        fail(f"--params is not valid JSON: {error}; write --params '{_EXAMPLE}'", status=BAD_OPTION)
    if not isinstance(value, dict):
        fail(f"--params must be a JSON object, such as '{_EXAMPLE}', not {params}", status=BAD_OPTION)
    return value


@contextmanager
def exit_on_errors() -> Iterator[None]:
    """End the program with a one-line message on errors of the client."""
    try:
        from app.client import InvalidInput, RenormClientError
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        fail(str(error), status=CANNOT_RUN)
    try:
        yield
    except InvalidInput as error:
        fail(str(error), status=BAD_OPTION)
    except RenormClientError as error:
        fail(str(error), status=CANNOT_RUN)
    except OSError as error:
        if error.filename is None:  # not a file of the user's: the reader of a pipe went away
            raise
        fail(f"{error.filename}: {error.strerror}", status=BAD_OPTION)


def _files(paths: list[Path]) -> list[Path]:
    from app.client.folders import image_files

    return [file for path in paths for file in (image_files(path) if path.is_dir() else [path])]


def _answers(
    files: list[Path], batch: int, server: Mapping[str, Any], options: Mapping[str, Any], bad: list[Path]
) -> Iterator[tuple[list[Path], Answer]]:
    """Yield the files and the answer of each request; files that fail go to ``bad``."""
    from app.cli.predict_files import answer_files
    from app.client import Client
    from app.client.folders import bar, batches

    def report(file: Path, reason: str) -> None:
        bad.append(file)
        typer.echo(f"renorm: {file}: {reason}", err=True)

    groups = batches(files, batch)
    with Client(**server) as client, bar(len(files), visible=len(groups) > 1) as advance:
        for predicted, answer, count in answer_files(client, groups, options, report):
            advance(count)
            if answer is not None:
                yield predicted, answer


_ABOUT = ("stream", "strategy", "step", "updated", "state_origin", "drift", "entropy")


def _print_lines(answers: Iterator[tuple[list[Path], Answer]]) -> None:
    for files, answer in answers:
        about = {name: getattr(answer, name) for name in _ABOUT}
        if answer.explanation is not None:
            about["explanation"] = answer.explanation.model_dump()
        for file, prediction in zip(files, answer.predictions, strict=True):
            line = {"file": str(file), **asdict(prediction), **about}
            typer.echo(json_text.dumps(line, ensure_ascii=False))


def _print_table(answers: Iterator[tuple[list[Path], Answer]], *, ranked: bool) -> None:
    rows: list[list[str]] = []
    last: Answer | None = None
    try:
        for files, last in answers:
            rows += [_row(file, image, ranked=ranked) for file, image in zip(files, last.predictions, strict=True)]
    finally:
        # Answers before an error have moved the stream, so they are shown.
        if last is not None:
            headers = ["file", "label", "probability", *(["next"] if ranked else [])]
            show("Predictions", headers, rows, right=[2])
            typer.echo(_summary(last))
            if last.explanation is not None:
                typer.echo(last.explanation.words)


def _row(file: Path, image: ImagePrediction, *, ranked: bool) -> list[str]:
    runners_up = ", ".join(f"{c.label} {c.probability:.1%}" for c in image.top_k[1:])
    return [str(file), image.label, f"{image.probability:.1%}", *([runners_up] if ranked else [])]


def _summary(answer: Answer) -> str:
    drift = "not finite" if answer.drift is None else f"{answer.drift:.3g}"
    learned = "" if answer.updated else " (not updated)"
    return (
        f"stream {answer.stream}, strategy {answer.strategy}: step {answer.step}{learned}, "
        f"drift {drift}, entropy {answer.entropy:.3g}"
    )
