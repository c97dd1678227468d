"""Combinations in the engine: whatever comes, each stream is answered as if it were alone; and what cannot be."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from adapters import STRATEGIES, AdaptiveModel, Lame, Request, UnsupportedModelError, strategy
from app.engine import Engine
from app.models.pixels import Pixels
from app.serving.core import EngineCore
from app.settings import Settings
from app.types import Call, Prediction
from tests.app.small import PREPROCESSING, core_of, hosted, png, small_engine

pytestmark = pytest.mark.anyio

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("adabn", {}),
    # By plain descent: where a gradient is all rounding, Adam takes a whole step into one direction or the other.
    ("adabn+tent", {"tent.lr": 0.5, "optimizer": "sgd"}),
    ("unmix_tns+core+cofa", {"core.lr": 0.5, "optimizer": "sgd", "least_images": 2}),
    ("rotta", {"capacity": 4, "update_every": 3, "rotta.lr": 0.05, "teacher_rate": 0.5}),
    ("adabn+lame", {"lame.memory": 5, "lame.when": "always"}),
    ("tent+temperature+lame", {"least_images": 2, "lame.memory": 7, "temperature": 2.0, "lame.when": "always"}),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Reset(NamedTuple):
    """Forget a stream, with one strategy or with all."""

    stream: str
    strategy: str | None


def drawn(chance: random.Random, count: int) -> list[Call | Reset]:
    """Requests of four streams with every strategy, and resets between them."""

    def one() -> Call | Reset:
        stream, (name, params) = chance.choice("abcd"), chance.choice(ASKED)
        if chance.random() < 0.1:
            return Reset(stream, chance.choice([None, name]))
        files: Any = [png(chance.randrange(50)) for _ in range(chance.choice([1, 2, 5]))]
        update, start, end = chance.random() > 0.2, chance.random() < 0.08, chance.random() < 0.08
        return Call(files, stream, name, params, update=update, start=start, end=end)

    return [one() for _ in range(count)]


class Alone:
    """The library, asked for one thing after another."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._model = AdaptiveModel(hosted().network, prepare=Pixels(PREPROCESSING))
        self._params = dict(ASKED)

    def forget(self, asked: Reset) -> int:
        """How many states there were."""
        wanted = asked.strategy and strategy(asked.strategy, self._params[asked.strategy])
        gone = [key for key in self._model.memories() if key.stream == asked.stream and wanted in (None, key.strategy)]
        kept = self._model.state_dict()
        kept["streams"] = [
            one for one, key in zip(kept["streams"], self._model.memories(), strict=True) if key not in gone
        ]
        self._model.load_state_dict(kept)
        return len(gone)

    async def answer(self, call: Call) -> tuple[Tensor, int]:
        """Probabilities and step."""
        if call.start:
            self._model.reset(call.stream)
        pixels = await self._engine._decode_stage(call.images)
        asked = Request(pixels, call.stream, strategy(call.strategy or "", call.params), call.update)
        (answer,) = self._model.predict([asked])
        if call.end:
            self._model.reset(call.stream)
        return answer.logits.softmax(1), answer.step


@pytest.mark.parametrize("seed", range(5))
async def test_a_storm_of_everything_is_answered_as_one_after_another(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    engine = small_engine(max_forward_images=chance.choice([1, 4, 16]))
    # Made before anything runs: torch.fx, which looks into the network, changes all modules of the process meanwhile.
    alone = Alone(engine)
    asked, tasks = drawn(chance, 40), []
    for one in asked:
        ask = engine.reset(one.stream, one.strategy) if isinstance(one, Reset) else engine.predict(one)
        tasks.append(asyncio.ensure_future(ask))
        if chance.random() < 0.3:
            await asyncio.sleep(0.01 * chance.random())
    got: list[Any] = await asyncio.gather(*tasks)
    for one, answer in zip(asked, got, strict=True):
        if isinstance(one, Reset):
            assert answer == alone.forget(one)
            continue
        probabilities, step = await alone.answer(one)
        assert answer.step == step
        torch.testing.assert_close(answer.probabilities, probabilities, rtol=0, atol=2e-3)
    await engine.close()


class Headless(nn.Module):
    """Ends in pooling, so that nothing says what its features are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x)).mean((2, 3))
        return out


@dataclass(frozen=True)
class Needy(Lame):
    """LAME that cannot do without features."""

    scores_suffice: ClassVar[bool] = False


async def test_a_strategy_that_the_network_cannot_take_is_refused_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(STRATEGIES, "needy", Needy)
    torch.manual_seed(0)
    settings = Settings(device="cpu")
    engine = Engine(settings, EngineCore(settings, replace(hosted(), network=Headless().eval())))
    core_of(engine).model.warm_up(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    names = ("adabn", "adabn+needy", "adabn", "adabn+lame", "adabn+tent")
    asked = [engine.predict(Call([png(i)], "a", name)) for i, name in enumerate(names)]
    got = await asyncio.gather(*asked, return_exceptions=True)
    assert [one.step for one in got if isinstance(one, Prediction)] == [1, 2, 1, 1]
    assert isinstance(got[1], UnsupportedModelError)
    assert "does not end in a linear layer: choose another corrector" in str(got[1])
    assert "adabn+needy" not in {state.strategy for state in (await engine.streams()).streams}
    await engine.close()
