import asyncio
import re
import subprocess
import sys

import pytest

from app import __version__
from app.errors import ModelError
from app.main import create_app
from app.settings import Settings
from tests.app.fakes import Client


def test_nothing_happens_before_the_start() -> None:
    async def open_engine(_: Settings) -> object:
        raise AssertionError("opened too early")

    app = create_app(Settings(), open_engine)  # type: ignore[arg-type]
    assert app.state.engine is None
    assert app.version == __version__


def test_the_lifespan_opens_and_closes_one_engine() -> None:
    client = Client()

    async def live() -> None:
        async with client.app.router.lifespan_context(client.app):
            assert client.app.state.engine is client.engine
            assert client.engine.closed == 0

    asyncio.run(live())
    assert client.app.state.engine is None
    assert client.engine.closed == 1


def test_the_engine_is_closed_when_the_server_fails() -> None:
    client = Client()

    async def live() -> None:
        async with client.app.router.lifespan_context(client.app):
            raise RuntimeError("the server fails")

    with pytest.raises(RuntimeError, match="the server fails"):
        asyncio.run(live())
    assert client.engine.closed == 1


def test_a_model_that_cannot_be_hosted_ends_the_start() -> None:
    async def open_engine(_: Settings) -> object:
        raise ModelError("no such model")

    app = create_app(Settings(), open_engine)  # type: ignore[arg-type]

    async def live() -> None:
        async with app.router.lifespan_context(app):
            raise AssertionError("started")

    with pytest.raises(ModelError, match="no such model"):
        asyncio.run(live())


def test_the_root_leads_to_the_docs() -> None:
    client = Client()
    response = client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_docs_need_no_internet(page: str) -> None:
    client = Client()
    shown = client.get(page)
    assert shown.status_code == 200
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", shown.text)
    assert len(assets) >= 2
    for asset in assets:
        assert asset.startswith("/"), asset
        assert client.get(asset).status_code == 200
    assert client.get("/redoc").status_code == 200


def test_importing_the_application_reads_no_settings_and_opens_nothing() -> None:
    code = "import app.main, threading; assert threading.active_count() == 1"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env={"RENORM_PORT": "nonsense", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
