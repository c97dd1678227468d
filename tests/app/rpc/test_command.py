"""`renorm serve --grpc-port`: what cannot be served is known before the model is loaded."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

import app.rpc
from app.cli import cli
from app.errors import MissingPackageError
from app.rpc import server
from tests.app.fakes import Client


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "app.rpc.server")
    monkeypatch.delattr(app.rpc, "server")
    yield
    monkeypatch.undo()
    assert importlib.import_module("app.rpc.server") is server


def serve(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["serve", "--port", "0", *arguments])
    assert "Traceback" not in done.output
    return done.exit_code, done.stderr


def test_the_command_says_what_is_missing(not_installed: None) -> None:
    status, said = serve("--grpc-port", "0")
    assert status == 1
    assert said == (
        "renorm: gRPC needs the package 'grpc', which is not installed; "
        "pip install 'renorm[grpc]', or start without --grpc-port\n"
    )


def test_the_application_says_it_too(not_installed: None) -> None:
    client = Client(grpc_port=0)
    with pytest.raises(MissingPackageError, match="'grpc'"):
        client.get("/healthz")
    assert client.engine.closed == 1
    assert Client().get("/healthz").status_code == 200


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = serve("--grpc-port", str(port))
        assert (status, said.startswith(f"renorm: port {port} of 127.0.0.1 is in use")) == (1, True)
        assert "choose another port with --grpc-port" in said
        client = Client(grpc_port=port)
        with pytest.raises(OSError, match=f"gRPC cannot listen on port {port}"):
            client.get("/healthz")
    assert client.engine.closed == 1


def test_two_servers_on_one_port() -> None:
    status, said = serve("--port", "8123", "--grpc-port", "8123")
    assert (status, said) == (2, "renorm: --port and --grpc-port are both 8123: choose different ports\n")
