"""The command line: options over variables over defaults, one clear line for each mistake, tables and JSON."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
import uvicorn
from typer.testing import CliRunner, Result

import app.serving.core
from adapters import COMBINATIONS, STRATEGIES, UnsupportedModelError
from app import __version__
from app.cli import cli
from app.cli.serve import serve
from app.cli.settings import settings_from
from app.errors import ModelError
from app.observability.logs import JsonLines
from app.settings import Settings
from tests.nets import Tiny

TINY = ["--model", "python:tests.nets:Tiny", "--size", "16"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def refused(result: Result, status: int) -> str:
    """The message of a command that ended with ``status``; there is no traceback."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("renorm: ")
    assert "Traceback" not in result.output
    return result.stderr


# Help


@pytest.mark.parametrize("command", ["serve", "describe", "strategies", "predict", "config", "key"])
def test_every_command_has_help_with_examples(command: str) -> None:
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert "Examples" in shown.stdout
    assert f"renorm {command} " in shown.stdout


def test_version_and_bare_command() -> None:
    assert run("--version").stdout == f"renorm {__version__}\n"
    assert "strategies" in run().output


def test_help_loads_neither_torch_nor_the_server() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom app.cli import cli\n"
        "assert CliRunner().invoke(cli, ['serve', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'fastapi', 'uvicorn') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "[]\n"


def test_every_setting_is_an_option_with_its_default_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("serve", "--help").stdout
    parameters = inspect.signature(serve).parameters
    for name, field in Settings.model_fields.items():
        assert parameters[name].default is None
        assert f"--{name.replace('_', '-')} " in shown
        if field.default is not None:
            default = {"False": "off", "()": "none"}.get(str(field.default), str(field.default))
            assert f"({default})" in shown


# Settings


def test_options_win_over_variables_and_variables_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_PORT", "9000")
    monkeypatch.setenv("RENORM_STRATEGY", "bn")
    settings = settings_from({"port": 9001, "strategy": None, "mean": "0.1, 0.2,0.3", "other": True})
    assert (settings.port, settings.strategy, settings.host) == (9001, "bn", "127.0.0.1")
    assert settings.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "70000"], "renorm: --port must be less than or equal to 65535, not '70000'\n"),
        (["--max-images", "0"], "renorm: --max-images must be greater than or equal to 1, not '0'\n"),
        (["--mean", "1,2"], "renorm: --mean must be three numbers, such as 0.5,0.5,0.5, or one number, not '1,2'\n"),
        (
            ["--std", "1,2,3,4"],
            "renorm: --std must be three numbers, such as 0.5,0.5,0.5, or one number, not '1,2,3,4'\n",
        ),
        (
            ["--mean", "a,b,c"],
            "renorm: --mean must be three numbers, such as 0.5,0.5,0.5, or one number, not 'a,b,c'\n",
        ),
        (["--device", "gpu"], "renorm: --device must be auto, cpu, cuda or cuda:NUMBER, not 'gpu'\n"),
        (["--dtype", "int8"], "renorm: --dtype must be 'float32' or 'bfloat16', not 'int8'\n"),
        (["--admin-key", "pass"], "renorm: --admin-key must have at least 8 characters\n"),
    ],
)
def test_invalid_option_is_one_line_with_the_expected_value(arguments: list[str], line: str) -> None:
    assert refused(run("serve", *arguments), 2) == line


def test_several_mistakes_are_all_named() -> None:
    lines = refused(run("serve", "--port", "-1", "--threads", "0"), 2).splitlines()
    assert [line.split()[1] for line in sorted(lines)] == ["--port", "--threads"]


def test_a_wrong_variable_is_named_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_PORT", "http")
    assert refused(run("describe"), 2) == "renorm: RENORM_PORT must be a valid integer, not 'http'\n"


def test_an_unknown_strategy_lists_the_known_ones() -> None:
    for command in (["serve", "--strategy", "adabm"], ["describe", "--strategy", "adabm"], ["strategies", "adabm"]):
        message = refused(run(*command), 2)
        assert "unknown strategy 'adabm'" in message
        assert "adabn" in message


# Describe, and what is drawn


def test_describe_shows_sites_and_the_bytes_of_every_strategy() -> None:
    shown = run("describe", *TINY, "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["bn", "BatchNorm2d", "6"] in lines
    # Mean and variance of six channels, and what drift is made of.
    drift = 4 * (2 * 6 + 2)
    assert ["robust_bn", str(4 * 2 * 6 + drift)] in lines
    assert ["source", str(drift)] in lines
    assert ["size", "16"] in lines
    assert ["device", "cpu"] in lines
    assert not [line for line in shown.stdout.splitlines() if line != line.rstrip()]


def test_describe_names_the_weights_chosen_from_several(tmp_path: Path) -> None:
    raw = Tiny().state_dict()
    torch.save({"state_dict": raw, "state_dict_ema": {key: value + 1 for key, value in raw.items()}}, tmp_path / "w.pt")
    options = [*TINY, "--weights", str(tmp_path / "w.pt"), "--name", "scanner", "--json"]
    said = json.loads(run("describe", *options).stdout)
    assert said["name"] == "scanner"
    assert said["weights"].startswith("w.pt: the averaged weights at 'state_dict_ema'; 'state_dict' not read")
    said = json.loads(run("describe", *options, "--weights-key", "state_dict").stdout)
    assert said["weights"].startswith("w.pt: the weights at 'state_dict'; 'state_dict_ema' not read")


def test_describe_counts_a_site_that_only_running_the_network_shows() -> None:
    assert "bn#2" in run("describe", "--model", "python:tests.nets:Twice", "--size", "16").stdout


def test_describe_json_equals_the_servers_response() -> None:
    said = json.loads(run("describe", *TINY, "--strategy", "bn", "--json").stdout)
    assert said["sites"] == [{"name": "bn", "kind": "BatchNorm2d", "channels": 6}]
    assert said["default_strategy"] == "bn"
    assert set(said["state_bytes"]) == {*COMBINATIONS, *STRATEGIES}


def test_in_a_terminal_tables_are_drawn() -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "app", "strategies", "adabn"]
    subprocess.run(command, stdout=slave, check=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(slave)
    drawn = os.read(master, 100_000).decode()
    os.close(master)
    assert "─" in drawn
    assert "momentum" in drawn


# Serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Response]:
    """Servers that start, are ready, answer that, and stop; the answers."""
    answers: list[httpx.Response] = []

    async def ask_once(server: uvicorn.Server) -> None:
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(1000):
                answer = await client.get(f"http://{host}:{port}/readyz")
                if answer.status_code == 200 or server.should_exit:
                    break
                await asyncio.sleep(0.02)
            answers.append(answer)

    monkeypatch.setattr(uvicorn.Server, "main_loop", ask_once)
    # The next server would go through the heap of all tests again.
    monkeypatch.setattr(gc, "unfreeze", lambda: None)
    return answers


def test_serve_starts_says_where_and_answers(served: list[httpx.Response]) -> None:
    shown = run("serve", *TINY, "--port", "0", "--threads", "1", "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    assert [answer.json()["ready"] for answer in served] == [True]
    url = str(served[0].url).removesuffix("/readyz")
    assert f"Listening on   {url}\n" in shown.stdout
    assert f"{url}/docs\n" in shown.stdout
    assert f"curl -F files=@image.jpg '{url}/v1/predict?stream=camera-1'\n" in shown.stdout
    assert "Access: open to every program on this machine; no keys are set.\n" in shown.stdout
    assert "tests.nets.Tiny (Tiny): 5 classes, 1 BatchNorm site, on cpu in float32." in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("access", "said"),
    [(["--insecure"], "Access: open to everyone"), (["--admin-key", "long enough"], "Access: calls need a key")],
)
def test_serving_beyond_loopback_prints_the_access_rules(
    served: list[httpx.Response], access: list[str], said: str
) -> None:
    shown = run("serve", *TINY, "--host", "0.0.0.0", "--port", "0", "--workers", "0", *access)  # noqa: S104
    assert (shown.exit_code, len(served)) == (0, 1)
    assert said in shown.stdout
    assert "127.0.0.1" not in shown.stdout
    assert ("curl -H 'Authorization: Bearer KEY' -F files=" in shown.stdout) is ("--admin-key" in access)
    assert "long enough" not in shown.output


def test_the_banner_of_a_server_that_logs_json_is_a_line_of_json(
    served: list[httpx.Response], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "renorm.server"):
        shown = run(
            "serve", *TINY, "--port", "0", "--workers", "0", "--threads", "1", "--device", "cpu", "--log-format", "json"
        )
    assert shown.stdout == ""
    access, record = [record for record in caplog.records if record.name == "renorm.server"]
    assert access.getMessage().startswith("Access: open to every program")
    line = json.loads(JsonLines().format(record))
    assert "lost when the server stops" in line["message"]
    assert (line["model"], line["url"]) == ("tests.nets.Tiny", str(served[0].url).removesuffix("/readyz"))


def test_a_server_says_at_start_that_streams_are_forgotten(served: list[httpx.Response]) -> None:
    shown = run("serve", *TINY, "--port", "0", "--workers", "0", "--threads", "1", "--device", "cpu")
    assert "lost when the server stops" in shown.stdout
    assert len(served) == 1


@pytest.mark.parametrize(("options", "level"), [([], logging.WARNING), (["--access-log"], logging.INFO)])
def test_the_access_log_is_a_setting(
    served: list[httpx.Response], options: list[str], level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("serve", *TINY, "--port", "0", "--workers", "0", "--threads", "1", "--device", "cpu", *options)
    assert logging.getLogger("renorm.access").level == level
    monkeypatch.setenv("RENORM_ACCESS_LOG", "true")
    run("serve", *TINY, "--port", "0", "--workers", "0", "--threads", "1", "--device", "cpu")
    assert logging.getLogger("renorm.access").level == logging.INFO
    assert len(served) == 2


def test_beyond_loopback_without_a_key_it_does_not_start() -> None:
    message = refused(run("serve", "--model", "no such model", "--host", "0.0.0.0"), 2)  # noqa: S104
    for way in ("renorm key new", "--keys", "RENORM_ADMIN_KEY", "--insecure"):
        assert way in message
    assert "No such file" in refused(run("serve", "--keys", "no-such.toml"), 2)


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


def test_a_port_in_use_is_known_before_the_model_is_loaded(taken: str) -> None:
    message = refused(run("serve", "--model", "no such model", "--port", taken), 1)
    assert message.startswith(f"renorm: port {taken} of 127.0.0.1 is in use:")
    assert "--port" in message


def test_an_address_of_another_machine_is_refused() -> None:
    assert "192.0.2.1: not an address of this machine" in refused(run("serve", "--host", "192.0.2.1", "--insecure"), 1)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ModelError("the weights do not fit", hint="check --weights"), "the weights do not fit; check --weights\n"),
        (UnsupportedModelError("Net has no BatchNorm layer"), "Net has no BatchNorm layer\n"),
    ],
)
@pytest.mark.parametrize("command", [["serve", "--port", "0", "--workers", "0"], ["describe"]])
def test_a_model_that_cannot_be_hosted_ends_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, command: list[str], failure: Exception, said: str
) -> None:
    def load(settings: Settings) -> None:
        raise failure

    monkeypatch.setattr(app.serving.core, "load", load)
    assert refused(run(*command, "--model", "mine"), 1) == f"renorm: mine cannot be hosted: {said}"
