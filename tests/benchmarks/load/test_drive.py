"""The load generator, against servers whose answers are known."""

from __future__ import annotations

import math
import os
import time

import pytest

from benchmarks.load.drive import ask, drive
from benchmarks.load.job import Load, LoadJob
from benchmarks.load.payloads import Dialect
from tests.benchmarks.load.fake_server import PREDICTION, fake_server, ok

RENORM = Dialect("renorm", "raw", "adabn")


def job(port: int, load: Load, seconds: float = 0.3) -> LoadJob:
    return LoadJob("127.0.0.1", port, os.getpid(), RENORM, load, seconds, warm_s=0.1)


def test_clients_that_wait_send_one_request_at_a_time() -> None:
    waiting, most = 0, 0

    def answer(_: bytes) -> bytes:
        nonlocal most
        most = max(most, waiting)
        end = time.thread_time() + 0.002  # the system counts CPU time in steps of a hundredth of a second
        while time.thread_time() < end:
            pass
        return ok(PREDICTION)

    with fake_server(answer, 0.01) as port:
        tally = drive(job(port, Load(clients=3)))
    assert tally.errors == 0, tally.fault
    assert 0 < tally.requests <= 33
    assert tally.images_per_s <= 110
    # Three clients share one server of 10 ms: each waits for the two others, and never less than for itself.
    assert 10 <= tally.p50 <= tally.p99
    assert tally.cpu_ms > 0


def test_images_are_counted_and_not_requests() -> None:
    body = PREDICTION.replace(b'[{"', b'[{"index": 1, "probability": 0.5}, {"')
    with fake_server(lambda _: ok(body), 0.01) as port:
        tally = drive(job(port, Load(images=2)))
    assert tally.errors == 0, tally.fault
    assert tally.images_per_s * 0.3 == pytest.approx(2 * tally.requests, abs=4)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (ok(b'{"error": "full"}', "503 Busy"), "503"),
        (ok(b'{"predictions": []}'), "not an answer"),
        (None, "hung up"),
        (b"nonsense\r\n\r\n", "HTTP"),
    ],
)
@pytest.mark.parametrize("load", [Load(clients=2), Load(rate=50)])
def test_implausible_answers_are_errors(answer: bytes | None, fault: str, load: Load) -> None:
    with fake_server(lambda _: answer) as port:
        tally = drive(job(port, load))
    assert tally.errors > 0
    assert fault in tally.fault
    assert (tally.images_per_s, tally.requests) == (0, 0)
    assert math.isnan(tally.p50)


def test_a_request_that_is_never_answered_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.load.drive.GRACE_S", 0.1)
    with fake_server(lambda _: ok(PREDICTION), pause_s=30) as port:
        tally = drive(job(port, Load(clients=2)))
    assert (tally.errors, tally.requests) == (2, 0)
    assert "no answer" in tally.fault


def test_latency_counts_from_when_a_request_was_due() -> None:
    # The server needs 50 ms a request and 50 a second come: after 0.3 s it lags by more than 0.3 s, though it answers
    # each within 50 ms of taking it up. A client that waited for its answers would never see that.
    with fake_server(lambda _: ok(PREDICTION), 0.05) as port:
        tally = drive(job(port, Load(rate=50)))
        patient = drive(job(port, Load(clients=1)))
    assert tally.errors == 0, tally.fault
    assert tally.p99 > 200
    assert tally.p99 > 2 * patient.p99


def test_requests_of_an_open_loop_come_at_the_same_moments_again() -> None:
    with fake_server(lambda _: ok(PREDICTION)) as port:
        first, second = (drive(job(port, Load(rate=100))) for _ in range(2))
    # Up to one at either end, where warming up and measuring meet.
    assert first.requests == pytest.approx(second.requests, abs=2)
    assert first.requests > 10


def test_the_classes_of_images_are_asked_one_by_one() -> None:
    bodies: list[bytes] = []

    def answer(body: bytes) -> bytes:
        bodies.append(body)
        return ok(PREDICTION)

    with fake_server(answer) as port:
        assert ask("127.0.0.1", port, RENORM, 8) == [8] * 8
        assert len(set(bodies)) == 8


def test_asking_a_server_that_refuses_is_an_error() -> None:
    with fake_server(lambda _: ok(b"", "503 Busy")) as port, pytest.raises(ValueError, match="status 503"):
        ask("127.0.0.1", port, RENORM, 4)


@pytest.mark.parametrize(
    ("load", "label"),
    [
        (Load(), "1 client x 1 image"),
        (Load(8, 4), "8 clients x 4 images"),
        (Load(8, shared=True), "8 clients x 1 image, one stream"),
        (Load(rate=50), "50 requests/s x 1 image"),
    ],
)
def test_loads_have_labels(load: Load, label: str) -> None:
    assert load.label == label
