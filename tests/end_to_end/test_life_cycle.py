"""A server's life as an orchestrator sees it: alive, ready, told to end, and broken."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent.parent

NETWORK = '''
import time
from pathlib import Path
import torch
from torch import nn

class Slow(nn.Module):
    """White images take {seconds} s, black ones end the thread."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x):
        if x.shape[0] == 1 and (x == x.amax()).all() and x.amax() > 0.9:
            time.sleep({seconds})
        if x.shape[0] == 1 and (x < -0.9).all():
            raise SystemExit(3)
        return self.body(x).mean((2, 3))

def build():
    while Path("wait").exists():
        time.sleep(0.02)
    return Slow()
'''


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


WHITE, GREY, BLACK = png(255), png(128), png(0)


@contextmanager
def server(folder: Path, *options: str, seconds: float = 0.0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`renorm serve` with that network, which is not built while a file "wait" lies in the folder."""
    (folder / "slow_net.py").write_text(NETWORK.format(seconds=seconds), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = ["--model", "python:slow_net:build", "--size", "8", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    command = [str(Path(sys.executable).parent / "renorm"), "serve", "--port", str(port), "--threads", "1", *model]
    process = subprocess.Popen(
        [*command, *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


def status(url: str) -> int:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:
        return 0


def predict(url: str, image: bytes, stream: str = "s") -> httpx.Response:
    return httpx.post(f"{url}/v1/predict", params={"stream": stream}, content=image, timeout=30)


def test_probes_tell_of_a_server_that_starts_is_ready_and_loses_an_engine(tmp_path: Path) -> None:
    """Alive at once, ready after the warm-up; a request that ends its engine fails at once, and others go on."""
    (tmp_path / "wait").touch()
    with server(tmp_path) as (url, _):
        until(lambda: status(f"{url}/healthz") == 200)
        assert httpx.get(f"{url}/healthz").json() == {"status": "starting"}
        refused = httpx.get(f"{url}/readyz")
        assert (refused.status_code, refused.json()["ready"]) == (503, False)
        assert predict(url, GREY).status_code == 503
        (tmp_path / "wait").unlink()
        until(lambda: status(f"{url}/readyz") == 200)
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        answer = predict(url, GREY)
        assert (answer.status_code, answer.json()["step"]) == (200, 1)
        begun = time.monotonic()
        refused = predict(url, BLACK)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert predict(url, GREY).json()["state_origin"] == "lost"
        assert time.monotonic() - begun < 3
        assert status(f"{url}/readyz") == 200
        assert status(f"{url}/healthz") == 200


def test_a_model_thread_that_ends_in_the_servers_own_process_shows_in_both_probes(tmp_path: Path) -> None:
    with server(tmp_path, "--workers", "0") as (url, _):
        until(lambda: status(f"{url}/readyz") == 200)
        assert predict(url, BLACK).status_code == 503
        assert predict(url, GREY).status_code == 503
        assert status(f"{url}/readyz") == 503
        assert status(f"{url}/healthz") == 503


def test_a_client_that_goes_takes_no_step_and_a_server_told_to_end_finishes_what_runs(tmp_path: Path) -> None:
    """One that goes before its turn; and the server is no longer ready once it is told to end."""
    with server(tmp_path, seconds=1.0) as (url, process), httpx.Client(base_url=url) as kept:
        until(lambda: status(f"{url}/readyz") == 200)
        kept.get("/healthz")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(predict, url, WHITE, "first")
            time.sleep(0.3)
            try:
                httpx.post(f"{url}/v1/predict", params={"stream": "gone"}, content=GREY, timeout=0.2)
                raise AssertionError("it was answered while another forward ran")
            except httpx.ReadTimeout:
                pass
            assert running.result().json()["step"] == 1
            assert httpx.get(f"{url}/v1/streams/gone").status_code == 404
            running = pool.submit(predict, url, WHITE)
            time.sleep(0.4)
            process.send_signal(signal.SIGTERM)
            assert running.result().json()["step"] == 1
        output, _ = process.communicate(timeout=10)
    assert process.returncode in (0, -signal.SIGTERM), output
    assert "Traceback" not in output
    assert status(f"{url}/healthz") == 0


def test_a_forward_that_does_not_end_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    with server(tmp_path, "--drain-seconds", "1", seconds=60.0) as (url, process):
        until(lambda: status(f"{url}/readyz") == 200)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(status_of, url)
            time.sleep(0.3)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=15)
            assert running.result() in (0, 500, 503)
    assert time.monotonic() - begun < 6, output


def status_of(url: str) -> int:
    try:
        return predict(url, WHITE).status_code
    except httpx.TransportError:
        return 0
