"""`renorm predict`: what it sends, what it shows, and one clear line for each thing that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.explanation_schema import EXAMPLE
from tests.app.client.mock import Server, error_response, form, prediction_response


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("app.client.synchronous.time.sleep", lambda _: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """What the command talks to."""
    server = Server(prediction_response())
    real = httpx.Client

    def connected(**options: Any) -> httpx.Client:
        return real(**{**options, "transport": httpx.MockTransport(server)})

    monkeypatch.setattr("app.client.synchronous.httpx.Client", connected)
    return server


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    for i in range(1, 12):
        (tmp_path / f"{i}.png").write_text(f"{i}")
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["predict", *map(str, arguments)])


def refusal(result: Result, status: int) -> str:
    """The one line of a command that ended with ``status``."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("renorm: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_help_has_examples() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    assert "Examples" in shown.stdout
    assert "renorm predict image.jpg" in shown.stdout


def test_help_loads_neither_the_client_nor_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom app.cli import cli\n"
        "assert CliRunner().invoke(cli, ['predict', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'fastapi', 'httpx') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "[]\n"


def test_predict_prints_a_table_and_the_streams_state(server: Server, frames: Path) -> None:
    server.replies = [prediction_response(2, step=12, drift=0.41234, entropy=0.3567, stream="camera-7")]
    result = run(frames / "1.png", frames / "2.png", "--stream", "camera-7")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["Predictions"],
        ["file", "label", "probability"],
        [str(frames / "1.png"), "cow", "40.0%"],
        [str(frames / "2.png"), "cow", "40.0%"],
        [],
        ["stream", "camera-7,", "strategy", "adabn:", "step", "12,", "drift", "0.412,", "entropy", "0.357"],
    ]
    assert form(server.requests[0])[0]["stream"] == "camera-7"


def test_all_options_reach_the_server(server: Server, frames: Path) -> None:
    options = ["--stream", "s", "--strategy", "bn", "--params", '{"momentum": 0.2}', "--no-update", "--top-k", "2"]
    server.replies = [prediction_response(updated=False, drift=None)]
    result = run(frames / "1.png", *options, "--url", "http://lab.example:9000", "--key", "a key")
    (request,) = server.requests
    assert request.url == "http://lab.example:9000/v1/predict"
    assert request.headers["Authorization"] == "Bearer a key"
    fields, _ = form(request)
    assert json.loads(fields.pop("params")) == {"momentum": 0.2}
    assert fields == {"stream": "s", "strategy": "bn", "update": "false", "top_k": "2"}
    assert result.stdout.splitlines()[1].split() == ["file", "label", "probability", "next"]
    assert "dog 20.0%" in result.stdout
    assert "step 1 (not updated), drift not finite" in result.stdout


def test_an_explanation_comes_last_in_words(server: Server, frames: Path) -> None:
    server.replies = [prediction_response(explanation=EXAMPLE)]
    result = run(frames / "1.png", "--explain")
    assert form(server.requests[0])[0]["explain"] == "true"
    assert result.stdout.splitlines()[-1] == EXAMPLE["words"]
    (line,) = run(frames / "1.png", "--explain", "--json").stdout.splitlines()
    assert json.loads(line)["explanation"] == EXAMPLE


def test_without_the_option_nothing_is_explained(server: Server, frames: Path) -> None:
    (line,) = run(frames / "1.png", "--json").stdout.splitlines()
    assert "explain" not in form(server.requests[0])[0]
    assert "explanation" not in json.loads(line)


def test_address_and_key_may_be_variables(server: Server, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_URL", "http://lab.example")
    monkeypatch.setenv("RENORM_KEY", "secret key")
    result = run(frames / "1.png")
    (request,) = server.requests
    assert (request.url.host, request.headers["Authorization"]) == ("lab.example", "Bearer secret key")
    assert "secret" not in result.output + run("--help").output


@pytest.mark.parametrize(("options", "sizes"), [([], [8, 3]), (["--batch", "5"], [5, 5, 1])])
def test_a_folder_goes_in_batches_in_natural_order(
    server: Server, frames: Path, options: list[str], sizes: list[int]
) -> None:
    server.replies = [prediction_response(size, step=i) for i, size in enumerate(sizes, 1)]
    result = run(frames, *options, "--json")
    sent = [[content for _, content in form(request)[1]] for request in server.requests]
    assert [len(one) for one in sent] == sizes
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(frames / f"{i}.png") for i in range(1, 12)]
    assert [line["step"] for line in lines] == [i for i, size in enumerate(sizes, 1) for _ in range(size)]
    assert result.stderr == ""


def test_json_has_everything_about_an_image(server: Server, frames: Path) -> None:
    (line,) = run(frames / "1.png", "--json").stdout.splitlines()
    cow, dog = ({"label": name, "index": i, "probability": p} for name, i, p in (("cow", 2, 0.4), ("dog", 3, 0.2)))
    assert json.loads(line) == {
        "file": str(frames / "1.png"),
        **cow,
        "top_k": [cow, dog],
        "stream": "default",
        "strategy": "adabn",
        "step": 1,
        "updated": True,
        "state_origin": "live",
        "drift": 0.5,
        "entropy": 0.25,
    }


def test_no_server_is_one_clear_line(server: Server, frames: Path) -> None:
    server.replies = [httpx.ConnectError("[Errno 111] Connection refused")]
    said = refusal(run(frames / "1.png"), 1)
    hint = "start one with `renorm serve`, or pass the right URL (--url)"
    assert said == f"renorm: no server answers at http://127.0.0.1:8000; {hint}\n"


def test_a_refusal_is_one_clear_line_that_names_the_file(server: Server, frames: Path) -> None:
    server.replies = [error_response(422, "unreadable_image", "files[0]")]
    said = refusal(run(frames / "2.png"), 1)
    assert said == f"renorm: {frames / '2.png'}: it was wrong; mend it (422 unreadable_image)\n"


@pytest.mark.parametrize("json_lines", [False, True], ids=["table", "json"])
def test_a_folder_goes_on_after_bad_files(server: Server, frames: Path, json_lines: bool) -> None:
    """Each group is sent again without the file that was refused; one that cannot be opened is never sent."""
    (frames / "7.png").unlink()
    (frames / "7.png").symlink_to("nowhere")
    unreadable = error_response(422, "unreadable_image", "files[1]")
    server.replies = [
        unreadable,
        error_response(413, "too_large", "files[3]"),
        prediction_response(3),
        prediction_response(4),
        prediction_response(1),
    ]
    files = [frames / f"{i}.png" for i in range(1, 12)]
    result = run(*files, "--batch", "5", *(["--json"] if json_lines else []))
    assert result.exit_code == 1
    named = [line.split(":")[1].strip() for line in result.stderr.splitlines()]
    assert named == [
        str(frames / "2.png"),
        str(frames / "5.png"),
        str(frames / "7.png"),
        "3 of 11 files failed",
    ]
    sent = [[content for _, content in form(request)[1]] for request in server.requests]
    assert sent[:3] == [[b"1", b"2", b"3", b"4", b"5"], [b"1", b"3", b"4", b"5"], [b"1", b"3", b"4"]]
    assert sent[3:] == [[b"6", b"8", b"9", b"10"], [b"11"]]
    good = [frames / f"{i}.png" for i in (1, 3, 4, 6, 8, 9, 10, 11)]
    if json_lines:
        assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(file) for file in good]
    else:
        assert all(f"{file} " in result.stdout for file in good)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_errors_independent_of_files_end_the_command_at_once(server: Server, frames: Path, status: int) -> None:
    server.replies = [prediction_response(5), error_response(status, "no", "files[0]")]
    result = run(frames, "--batch", "5")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert {form(request)[0]["stream"] for request in server.requests} == {"default"}
    assert str(frames / "5.png") in result.stdout
    assert str(frames / "11.png") not in result.stdout


def test_predictions_before_a_refusal_are_printed(server: Server, frames: Path) -> None:
    server.replies = [prediction_response(5, step=4), error_response(503, "busy")]
    result = run(frames, "--batch", "5")
    assert "(503 busy)" in refusal(result, 1)
    assert str(frames / "5.png") in result.stdout
    assert str(frames / "6.png") not in result.stdout
    assert "step 4" in result.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--params", "{"], "--params is not valid JSON"),
        (["--params", "momentum=0.2"], """write --params '{"momentum": 0.2}'"""),
        (["--params", "[1]"], "--params must be a JSON object"),
        (["--params", '{"a": NaN}'], "params cannot be written as JSON"),
        (["--url", "127.0.0.1:8000"], "must begin with http://"),
        (["--key", ""], "the key is empty"),
    ],
)
def test_wrong_options_are_one_clear_line(server: Server, frames: Path, options: list[str], says: str) -> None:
    assert says in refusal(run(frames / "1.png", *options), 2)
    assert server.requests == []


def test_a_file_that_is_not_there_is_named_and_the_others_go_on(server: Server, frames: Path) -> None:
    result = run("nowhere.png", frames / "1.png", "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith("renorm: nowhere.png: No such file or directory\n")
    assert json.loads(result.stdout)["file"] == str(frames / "1.png")


@pytest.mark.parametrize("options", [["--top-k", "0"], ["--batch", "0"], ["--top-k", "x"], ["--colour", "red"]])
def test_options_out_of_range_are_refused(server: Server, frames: Path, options: list[str]) -> None:
    assert run(frames / "1.png", *options).exit_code == 2
    assert server.requests == []


def test_no_images_are_refused(server: Server, tmp_path: Path) -> None:
    assert run().exit_code == 2
    assert "no file in" in refusal(run(tmp_path), 2)


def test_without_httpx_one_line_says_what_to_install(frames: Path) -> None:
    code = "import sys\nsys.modules['httpx'] = None\nfrom app.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", frames / "1.png"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "renorm: the client needs httpx, which is not installed: pip install httpx\n"
