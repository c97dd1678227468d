"""Peers: their environments, and which way to run them is the best."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load import tuning as load_tuning
from benchmarks.load.__main__ import parser, planned
from benchmarks.load.job import Load, LoadJob, Tally
from benchmarks.load.peers import PEERS, Peer, PeerOptions, environment
from benchmarks.load.plan import LoadPlan
from benchmarks.load.servers import ROOT, LoadError, ServerProcess

PEER = PEERS[0]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, none of them in truth."""
    commands: list[list[str]] = []

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert "PIP_CONSTRAINT" not in options["env"]
        commands.append(list(command))
        if "venv" in command:
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            (Path(command[-1]) / "lib" / version / "site-packages").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("PIP_CONSTRAINT", "constraints.txt")
    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_an_environment_is_made_once_beside_ours(ran: list[list[str]], tmp_path: Path) -> None:
    python = environment(PEER, tmp_path)
    assert [command[-1] for command in ran] == [str(python.parent.parent), PEER.requirements[-1]]
    (path,) = python.parent.parent.rglob("host.pth")
    assert path.read_text() == sysconfig.get_path("purelib")
    ran.clear()
    assert environment(PEER, tmp_path) == python
    assert ran == []


def test_an_install_that_failed_is_told_and_tried_again(
    ran: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = subprocess.run

    def failing(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = made(command, **options)
        return done if "venv" in command else subprocess.CompletedProcess(command, 1, "", "no matching distribution")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", failing)
        with pytest.raises(LoadError, match="LitServe could not be installed: no matching distribution"):
            environment(PEER, tmp_path)
    ran.clear()
    environment(PEER, tmp_path)
    assert len(ran) == 2


def test_a_peer_is_run_by_its_own_python_with_its_options() -> None:
    command = PEER.command(Path("python"), PEER.options[0], 3)(8123)
    assert command[0] == "python"
    assert command[1] == "-m"
    assert Path(ROOT, *command[2].split(".")).with_suffix(".py").is_file()
    assert command[3] == "8123"
    assert json.loads(command[4]) == {"batch": 16, "timeout": 0.002, "workers": 2, "zmq": False, "threads": 3}


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (PeerOptions(32, 0.002, 1, zmq=True), "batches of 32 within 2 ms, 1 worker, ZeroMQ"),
        (PeerOptions(1, 0.0, 2), "no batching, 2 workers"),
        (PeerOptions(1, 0.0, 0), "no batching, in one process"),
    ],
)
def test_options_have_names(options: PeerOptions, label: str) -> None:
    assert options.label == label


def tally(images_per_s: float, errors: int = 0) -> Tally:
    return Tally(images_per_s, 1.0, 2.0, 0.5, 10, errors, "broken" * bool(errors))


def plan(*arguments: str) -> LoadPlan:
    return planned(parser().parse_args(arguments))


@contextmanager
def hosted(peer: Peer, options: PeerOptions, python: Path, threads: int) -> Iterator[ServerProcess]:
    if options.workers == 2:
        raise LoadError("two are too many")
    yield ServerProcess(options.label, 1, 1)


def test_the_best_way_is_the_one_with_the_highest_throughput_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_tuning, "hosting", hosted)
    speeds = {"json": [tally(300), tally(900, errors=1), tally(100), tally(400)], "form": [tally(200)] * 4}

    def drive(job: LoadJob) -> Tally:
        return tally(5) if job.load == Load() else speeds[job.dialect.body].pop(0)

    best, tried, failed = load_tuning.best(plan(), PEER, Path("python"), drive)
    assert best.options == PeerOptions(1, 0.0, 1)
    assert best.dialect.body == "json"
    assert len(tried) == 8 == 2 * (len(PEER.options) - 3)
    assert failed[f"LitServe, {PEER.options[0].label}"] == "two are too many"
    assert len(failed) == 3
    assert all(one.one.images_per_s == 5 for one in tried)


def test_the_likeliest_way_needs_no_measurement() -> None:
    found = load_tuning.likeliest(PEER, Path("python"))
    assert (found.options, found.dialect.body) == (PEER.options[0], "json")
    assert load_tuning.steps(PEER) == 28


@pytest.mark.parametrize(("peer", "why"), [(PEERS[1], "broken"), (PEER, "two are too many")])
def test_a_peer_that_answers_nothing_is_left_out_with_a_reason(
    peer: Peer, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_: Peer, options: PeerOptions, __: Path, ___: int) -> Any:
        if peer is PEER:
            raise LoadError("two are too many")
        return nullcontext(ServerProcess(options.label, 1, 1))

    monkeypatch.setattr(load_tuning, "hosting", nothing)
    with pytest.raises(LoadError, match=f"{peer.title} failed under every load: {why}"):
        load_tuning.best(plan(), peer, Path("python"), lambda job: tally(0, errors=3))
