"""The server that a benchmark starts for itself."""

from __future__ import annotations

import httpx
import pytest
from local_server import local_server
from stream_client import ServerError, StreamClient


def test_it_runs_while_the_block_lasts() -> None:
    options = ["--model", "python:tests.nets:Tiny", "--size", "16", "--threads", "1"]
    with local_server(options) as url, StreamClient(url) as client:
        assert client.ready() == "python:tests.nets:Tiny"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz", trust_env=False)


def test_a_server_that_cannot_start_tells_why() -> None:
    said = "(?s)the server did not start: .*renorm: nothing cannot be hosted"
    with pytest.raises(ServerError, match=said), local_server(["--model", "nothing"]):
        pytest.fail("there is no such model")
