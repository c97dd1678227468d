import asyncio
import re
import subprocess
import sys
from typing import cast

import httpx
import pytest

from app import __version__
from app.engine import Engine
from app.errors import ModelError
from app.main import create_app
from app.observability.meter import Meter
from app.server_state import state_of
from app.settings import Settings
from tests.app.fakes import Client, FakeEngine


def test_app_opens_no_engine_before_the_start() -> None:
    async def open_engine(*_: object) -> Engine:
        raise AssertionError("opened too early")

    app = create_app(Settings(), open_engine)
    assert state_of(app).engine is None
    assert app.version == __version__


def test_the_lifespan_opens_and_closes_one_engine() -> None:
    client = Client()

    async def live() -> None:
        async with client.app.router.lifespan_context(client.app):
            assert client.state.engine is cast(Engine, client.engine)
            assert client.engine.closed == 0

    asyncio.run(live())
    assert client.state.engine is None
    assert client.engine.closed == 1


def test_the_engine_is_closed_when_the_server_fails() -> None:
    client = Client()

    async def live() -> None:
        async with client.app.router.lifespan_context(client.app):
            raise RuntimeError("the server fails")

    with pytest.raises(RuntimeError, match="the server fails"):
        asyncio.run(live())
    assert client.engine.closed == 1


def test_doors_answer_while_the_engine_is_opened_in_the_background() -> None:
    engine, gate = FakeEngine(Settings()), asyncio.Event()

    async def open_engine(_: Settings, metrics: Meter) -> Engine:
        await gate.wait()
        engine.metrics = metrics
        return cast(Engine, engine)

    app = create_app(Settings(), open_engine, background=True)

    async def live() -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://[::1]") as to,
        ):
            assert (await to.get("/healthz")).json() == {"status": "starting"}
            assert (await to.get("/readyz")).status_code == 503
            assert (await to.post("/v1/predict", content=b"x")).status_code == 503
            gate.set()
            await asyncio.sleep(0.01)
            assert (await to.get("/readyz")).status_code == 200
            assert engine.metrics is state_of(app).metrics
        assert engine.closed == 1

    asyncio.run(live())


def test_an_end_before_the_engine_is_open_does_not_wait_for_it() -> None:
    async def open_engine(*_: object) -> Engine:
        await asyncio.sleep(100)
        raise AssertionError("nobody waits so long")

    app = create_app(Settings(), open_engine, background=True)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(live(), 5))
    assert state_of(app).engine is None


@pytest.mark.parametrize("fails", [False, True])
def test_snapshot_before_close_sees_the_streams(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    engine, kept = FakeEngine(Settings()), list[tuple[object, int]]()

    async def open_engine(*_: object) -> Engine:
        return cast(Engine, engine)

    async def keep(given: Engine) -> None:
        kept.append(((await given.snapshot())["format"], engine.closed))
        if fails:
            raise OSError("no space left")

    app = create_app(Settings(), open_engine, before_close=keep)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(live())
    assert kept == [(3, 0)]
    assert engine.closed == 1
    assert ("no space left" in caplog.text) == fails


def test_a_model_that_cannot_be_hosted_ends_the_start() -> None:
    async def open_engine(*_: object) -> Engine:
        raise ModelError("no such model")

    app = create_app(Settings(), open_engine)

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


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"name": "scanner.v2"}, "scanner.v2"), ({}, "tests.nets.Tiny")],
    ids=["chosen", "by default"],
)
def test_a_models_name_is_that_of_answers_paths_and_metrics(settings: dict[str, str], name: str) -> None:
    values = Settings.model_validate({"model": "python:tests.nets:Tiny", "size": 16, **settings})

    async def ask() -> None:
        app = create_app(values, Engine.open)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            assert (await client.get("/v1/model")).json()["name"] == name
            assert (await client.get("/readyz")).json()["model"] == name
            assert (await client.get(f"/v2/models/{name}")).json()["name"] == name
            assert (await client.get(f"/v2/models/{name}/ready")).status_code == 200
            assert f'model="{name}"' in (await client.get("/metrics")).text

    asyncio.run(ask())
