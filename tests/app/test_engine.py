"""The engine with a small network, a real model thread and real images."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import app.serving.core
from adapters import (
    COMBINATIONS,
    STRATEGIES,
    AdaptiveModel,
    ParameterError,
    UnknownStrategyError,
    UnsupportedModelError,
)
from app.engine import Engine
from app.errors import (
    EngineClosedError,
    FieldError,
    ImageError,
    StreamNotFoundError,
    TooLargeError,
    UnanswerableError,
)
from app.images import ImageLimits, decode
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.serving.core import EngineCore
from app.settings import Settings
from app.types import Call, Prediction
from tests.app.small import BLACK, PREPROCESSING, Net, burst, core_of, hosted, png, same, small_engine

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("core_kind")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine(core_kind: str) -> AsyncIterator[Engine]:
    engine = small_engine()
    yield engine
    await engine.close()


@pytest.mark.parametrize("strategy", list(STRATEGIES))
async def test_answers_equal_the_librarys(engine: Engine, strategy: str) -> None:
    model = AdaptiveModel(engine.hosted.network, strategy)
    for seeds in ([1, 2, 3], [4], [5, 6]):
        images = [png(seed) for seed in seeds]
        answer = await engine.predict(Call(images, strategy=strategy))
        pixels = [decode(image, PREPROCESSING, ImageLimits(10_000, 10_000)) for image in images]
        tensor = Pixels(PREPROCESSING)(torch.tensor(np.stack(pixels)))
        assert torch.allclose(answer.probabilities, model(tensor).softmax(1), rtol=0, atol=1e-6)
    assert answer.step == 3
    assert answer.strategy == strategy


async def test_two_streams_under_load_answer_as_each_does_alone(engine: Engine) -> None:
    # One stream dark, one bright; sixteen clients send whenever they are answered.
    calls = {stream: [Call([png(i, *span), png(i + 500, *span)], stream) for i in range(24)] for stream, span in SPANS}
    todo = [call for pair in zip(*calls.values(), strict=True) for call in pair]
    got: dict[str, dict[int, tuple[Call, Prediction]]] = {stream: {} for stream in calls}

    async def client() -> None:
        while todo:
            call = todo.pop(0)
            answer = await engine.predict(call)
            got[call.stream][answer.step] = call, answer

    await asyncio.gather(*(client() for _ in range(16)))
    for stream in calls:
        assert sorted(got[stream]) == list(range(1, 25))
        alone = Engine(engine.settings, EngineCore(engine.settings, engine.hosted))
        for step in range(1, 25):
            call, answer = got[stream][step]
            assert same(await alone.predict(call), answer), (stream, step)
        await alone.close()


SPANS = (("dark", (0, 90)), ("bright", (150, 256)))


async def test_after_a_reset_the_same_requests_have_the_same_answers(engine: Engine) -> None:
    calls = [Call([png(i, 0, 99)], "s") for i in range(5)]
    first = [await engine.predict(call) for call in calls]
    await engine.predict(Call([png(1)], "other"))
    assert await engine.reset("s") == 1
    second = [await engine.predict(call) for call in calls]
    assert all(torch.equal(a.probabilities, b.probabilities) for a, b in zip(first, second, strict=True))
    assert [info.steps for info in (await engine.stream("other"))] == [1]
    assert not torch.equal(first[0].probabilities, (await engine.predict(calls[0])).probabilities)


async def test_without_update_the_answer_is_the_same_and_the_state_stays(engine: Engine) -> None:
    await engine.predict(Call([png(1, 0, 50)]))
    looked = [await engine.predict(Call([png(2, 0, 50)], update=False)) for _ in range(3)]
    assert [(answer.step, answer.updated) for answer in looked] == [(1, False)] * 3
    taken = await engine.predict(Call([png(2, 0, 50)]))
    assert (taken.step, taken.updated) == (2, True)
    assert all(torch.equal(answer.probabilities, taken.probabilities) for answer in looked)


async def test_looking_at_an_unknown_stream_does_not_begin_it(engine: Engine) -> None:
    await engine.predict(Call([png(1)], "new", update=False))
    assert (await engine.streams()).streams == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (Call([png(1), b"no image"]), ImageError),
        (Call([png(1), png(2)[:60]]), ImageError),
        (Call([]), FieldError),
        (Call([png(1)] * 129), TooLargeError),
        (Call([png(1)], strategy="magic"), UnknownStrategyError),
        (Call([png(1)], params={"momentum": 7}), ParameterError),
        (Call([png(1)], params={"speed": 7}), ParameterError),
    ],
)
async def test_a_bad_request_moves_no_state(engine: Engine, call: Call, error: type[Exception]) -> None:
    await engine.predict(Call([png(9, 0, 60)]))
    expected = await engine.predict(Call([png(8, 0, 60)], update=False))
    with pytest.raises(error):
        await engine.predict(call)
    after = await engine.predict(Call([png(8, 0, 60)], update=False))
    assert torch.equal(after.probabilities, expected.probabilities)
    assert [info.steps for info in (await engine.streams()).streams] == [1]


async def test_the_first_bad_image_is_the_one_named(engine: Engine) -> None:
    with pytest.raises(ImageError) as caught:
        await engine.predict(Call([png(1), b"x", png(2), b"y"]))
    assert caught.value.image == 1


@pytest.mark.parametrize(("trouble", "error"), [("raise", RuntimeError), ("nan", UnanswerableError)])
async def test_a_request_the_network_cannot_answer_fails_alone(trouble: str, error: type[Exception]) -> None:
    engine, alone = small_engine(trouble), small_engine()
    good = [Call([png(1)], "a"), Call([png(2)], "a"), Call([png(3)], "b")]
    results = await burst(engine, [good[0], Call([BLACK], "a"), good[1], good[2]])
    assert isinstance(results.pop(1), error)
    for call, result in zip(good, results, strict=True):
        assert isinstance(result, Prediction)
        assert same(result, await alone.predict(call))
    assert [(info.stream, info.steps) for info in (await engine.streams()).streams if info.stream == "a"] == [("a", 2)]
    await engine.close()
    await alone.close()


async def test_waiting_requests_share_a_forward(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = AdaptiveModel.run

    def spy(self: AdaptiveModel, requests: list[object], memories: object) -> object:
        sizes.append(len(requests))
        return run(self, requests, memories)  # type: ignore[arg-type]

    monkeypatch.setattr(AdaptiveModel, "run", spy)
    calls = [Call([png(i)], f"s{i % 3}", strategy) for i, strategy in enumerate([*STRATEGIES, "adabn"])]
    results = await burst(engine, calls)
    assert all(isinstance(result, Prediction) for result in results)
    assert sizes == [1, len(calls)]


async def test_states_beyond_the_memory_are_evicted_and_begin_anew() -> None:
    engine = small_engine(max_streams=2)
    for stream in ("a", "b", "c", "a"):
        answer = await engine.predict(Call([png(1)], stream))
        assert answer.step == 1
    assert (await engine.streams()).evictions == 2
    await engine.close()


async def test_streams_are_told_by_name(engine: Engine) -> None:
    await engine.predict(Call([png(1), png(2)], "cam"))
    await engine.predict(Call([png(1)], "cam", "unmix_tns", {"components": 4}))
    infos = {info.strategy: info for info in (await engine.stream("cam"))}
    assert infos["adabn"].images == 2
    assert infos["unmix_tns"].params["components"] == 4
    assert infos["adabn"].bytes == engine.describe().state_bytes["adabn"]
    assert infos["adabn"].entropy > 0
    with pytest.raises(StreamNotFoundError, match="nobody"):
        await engine.stream("nobody")


async def test_reset_by_strategy_and_of_everything(engine: Engine) -> None:
    for strategy in ("adabn", "robust_bn"):
        for stream in "ab":
            await engine.predict(Call([png(1)], stream, strategy))
    assert await engine.reset(strategy="adabn") == 2
    assert await engine.reset("a", "robust_bn") == 1
    assert await engine.reset("nobody") == 0
    assert await engine.reset() == 1
    with pytest.raises(UnknownStrategyError):
        await engine.reset(strategy="magic")


async def test_the_ping_is_truthful(engine: Engine) -> None:
    network = engine.hosted.network
    assert isinstance(network, Net)
    assert await engine.ping(5)
    network.gate.clear()
    stuck = asyncio.ensure_future(engine.predict(Call([png(1)])))
    for _ in range(1000):
        if core_of(engine).batcher._running is not None:
            break
        await asyncio.sleep(0.01)
    assert not await engine.ping(0.05)
    network.gate.set()
    await stuck
    assert await engine.ping(5)
    await core_of(engine).thread.close()
    assert not await engine.ping(5)
    with pytest.raises(EngineClosedError):
        await engine.predict(Call([png(1)]))


async def test_a_closed_engine_refuses() -> None:
    engine = small_engine()
    await engine.close()
    with pytest.raises(EngineClosedError):
        await engine.predict(Call([png(1)]))
    with pytest.raises(EngineClosedError):
        await engine.reset()


async def test_open_loads_warms_up_and_changes_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.serving.core, "load", lambda settings: hosted())
    engine = await Engine.open(Settings(strategy="bn"))
    assert (await engine.streams()).streams == []
    info = engine.describe()
    assert (info.name, info.channels, info.default_strategy, info.dtype) == ("net", 16, "bn", "float32")
    assert [(site.kind, site.channels) for site in info.sites] == [("BatchNorm2d", 8)] * 2
    assert info.state_bytes["robust_bn"] == 4 * 2 * 16 + 4 * (2 * 8 + 2)  # the state, and what drift is made of
    assert set(info.state_bytes) == {*COMBINATIONS, *STRATEGIES}
    await engine.close()


async def test_the_model_is_made_and_warmed_up_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    told: list[str] = []

    class Model(AdaptiveModel):
        def __init__(self, *args: Any, **said: Any) -> None:
            made.update(said)
            super().__init__(*args, **{**said, "compile": False})

        def warm_up(self, image: Tensor, progress: Callable[[str], None] | None = None) -> None:
            assert progress is not None
            progress(f"compiling for {list(image.shape)} {image.dtype}")
            super().warm_up(image, progress)

    monkeypatch.setattr(app.serving.core, "load", lambda settings: hosted())
    monkeypatch.setattr(app.serving.core, "AdaptiveModel", Model)
    settings = Settings(compile=True, dtype="bfloat16", device="cpu")
    engine = await Engine.open(settings, progress=told.append)
    assert {name: made[name] for name in ("compile", "dtype", "device", "copy")} == {
        "compile": True,
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "copy": False,
    }
    assert told == ["compiling for [1, 8, 8, 3] torch.uint8"]
    assert (engine.describe().device, engine.describe().dtype) == ("cpu", "bfloat16")
    await engine.close()


class OneOnly(nn.Module):
    """Normalizes a parameter of one row, so that it works for one image only."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.bn2, self.token = nn.BatchNorm2d(3), nn.BatchNorm1d(3), nn.Parameter(torch.ones(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bn(x).mean((2, 3)) + self.bn2(self.token)
        return logits


async def test_a_network_that_cannot_answer_a_batch_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Hosted("one", OneOnly(), ["a", "b", "c"], PREPROCESSING, "OneOnly", "")
    monkeypatch.setattr(app.serving.core, "load", lambda settings: one)
    with pytest.raises(UnsupportedModelError, match="bn2 sees 1 rows for 2 images"):
        await Engine.open(Settings())


@pytest.mark.parametrize("used", [True, False], ids=["streams", "none"])
async def test_closing_says_what_is_forgotten(engine: Engine, used: bool, caplog: pytest.LogCaptureFixture) -> None:
    if used:
        for stream, strategy in (("a", "adabn"), ("a", "bn"), ("b", "adabn")):
            await engine.predict(Call([png(1)], stream, strategy))
    with caplog.at_level(logging.INFO, "renorm.server"):
        await engine.close()
    assert ("stopping: 3 states of 2 streams are dropped" in caplog.text) is used
