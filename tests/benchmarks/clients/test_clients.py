"""Trying other projects' clients: what is reported, and what counts as a failure."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clients import __main__ as clients
from benchmarks.clients import calls as client_calls
from benchmarks.clients.calls import ClientCall, DiffersError, check_close, check_equal, check_message, report
from benchmarks.load.peers import Guest
from benchmarks.load.servers import LoadError, ServerProcess

PROGRAM = "import sys\n"
HALVES = np.array([[0.5, 0.5]], np.float32)
REAL = """
import numpy as np
from benchmarks.clients.calls import PICTURES, RenormServer, check_close, new_stream, report
server = RenormServer(sys.argv[1])
def infer():
    body = {"parameters": {"sequence_id": new_stream()}, **server.request_body(PICTURES)}
    answer = server.request("POST", f"/v2/models/{server.model}/infer", json=body).raise_for_status().json()
    (found,) = (output for output in answer["outputs"] if output["name"] == "probabilities")
    return check_close(np.reshape(found["data"], found["shape"]), server.predicted(PICTURES, new_stream()))
class Nothing:
    def model_validate_json(content): raise ValueError("never")
report({
    "infer": infer,
    "missing": lambda: server.checked("GET", "/v2/models/other", Nothing),
    "type": lambda: server.checked("GET", "/v2", Nothing),
})
"""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    """The only client, whose program each test writes; it needs no environment of its own."""
    fake = Guest("fake", "Fake", ("fake==1.2",))
    monkeypatch.setattr(clients, "CLIENTS", (fake,))
    monkeypatch.setattr(clients, "program", lambda guest: [str(tmp_path / f"{guest.name}.py")])
    monkeypatch.setattr(clients, "environment", lambda guest, folder: Path(sys.executable))
    (tmp_path / "fake.py").write_text(PROGRAM)
    return fake


def write(folder: Path, program: str) -> None:
    (folder / "fake.py").write_text(PROGRAM + program)


def run(*arguments: str) -> int:
    return clients.main(["--url", "http://127.0.0.1:1", *arguments])


def test_calls_of_the_real_server_are_compared_with_its_own_interface(
    guest: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, REAL)
    assert clients.main([]) == 1
    said, told = capsys.readouterr()
    assert "| Fake 1.2 | infer | passed | as POST /v1/predict |" in said
    assert "| missing | **failed** | DiffersError: 404 instead of 200 |" in said
    assert "| type | **failed** | ValueError: never |" in said
    assert "1 of 3 calls passed." in said
    assert [line.partition(": ")[0] for line in told.splitlines()] == ["renorm", *["Fake 1.2"] * 4]


def test_a_page_is_written_and_all_passed_is_success(guest: Guest, tmp_path: Path) -> None:
    calls = r"""{"one": lambda: print("noise") or "a | b\nc"}"""
    write(tmp_path, f"from benchmarks.clients.calls import report\nreport({calls})")
    assert run("--out", str(tmp_path / "page.md")) == 0
    page = (tmp_path / "page.md").read_text()
    assert "| Fake 1.2 | one | passed | a \\| b c |" in page
    assert page.endswith("1 of 1 calls passed.\n")


def test_a_client_that_ends_with_an_error_has_failed_after_what_it_reported(guest: Guest, tmp_path: Path) -> None:
    write(tmp_path, "from benchmarks.clients.calls import report\nreport({'one': lambda: 'fine'})\nsys.exit('no more')")
    first, last = clients.trying(guest, "", tmp_path)
    assert first == ClientCall("one", True, "fine")
    assert last == ClientCall("its program", False, "ended with status 1: no more")
    assert run() == 1


def test_a_client_that_hangs_is_ended(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE_S", 0.3)
    write(tmp_path, "import time\ntime.sleep(60)")
    (only,) = clients.trying(guest, "", tmp_path)
    assert only.detail.startswith("ended with status -9")


def test_a_client_that_nobody_listens_to_is_ended(guest: Guest, tmp_path: Path) -> None:
    write(tmp_path, 'import time\nprint(\'{"name": "a", "passed": true, "detail": ""}\', flush=True)\ntime.sleep(60)')
    calls = clients.trying(guest, "", tmp_path)
    assert next(calls) == ClientCall("a", True, "")
    calls.close()  # type: ignore[attr-defined]


def test_a_client_that_cannot_be_installed_has_failed(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(guest: Guest, folder: Path) -> Path:
        raise LoadError(f"{guest.title} could not be installed: no index")

    monkeypatch.setattr(clients, "environment", fails)
    assert run() == 1
    assert "| install | **failed** | Fake could not be installed: no index |" in capsys.readouterr().out


def test_a_server_that_does_not_start_is_an_error(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(title: str, *_: object) -> AbstractContextManager[ServerProcess]:
        raise LoadError(f"{title} did not start: no room")

    monkeypatch.setattr(clients, "started", fails)
    assert clients.main([]) == 1
    assert "clients: renorm did not start: no room" in capsys.readouterr().err


def test_every_client_has_a_program_and_a_version() -> None:
    assert [client.name for client in clients.CLIENTS] == ["kserve", "mlserver"]
    for client in clients.CLIENTS:
        assert importlib.util.find_spec(clients.program(client)[1])
        assert clients.version(client)[-1].isdigit()


def test_each_call_is_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise OSError("refused")

    report({"good": lambda: "yes", "bad": fails})
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert good == {"name": "good", "passed": True, "detail": "yes"}
    assert bad == {"name": "bad", "passed": False, "detail": "OSError: refused"}


@pytest.mark.parametrize(
    ("found", "message"), [([[0.5]], "shape"), ([[0.5, 0.4]], "off by 0.1"), ([[0.5, np.nan]], "off by nan")]
)
def test_other_probabilities_are_a_failure(found: object, message: str) -> None:
    with pytest.raises(DiffersError, match=message):
        check_close(found, HALVES)


def test_equal_answers_pass() -> None:
    assert check_close([[0.5, 0.500001]], HALVES) == "as POST /v1/predict"
    assert check_equal(True, True) == "True"
    assert check_message("400: send one", "send one") == "says: 400: send one"


def test_other_words_and_values_are_a_failure() -> None:
    with pytest.raises(DiffersError, match="False instead of True"):
        check_equal(False, True)
    with pytest.raises(DiffersError, match="the server had said 'send one'"):
        check_message("400", "send one")


def test_pixels_are_those_of_the_pictures() -> None:
    assert client_calls.pixels(client_calls.PICTURES).shape == (2, 32, 32, 3)
