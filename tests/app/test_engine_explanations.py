"""Explanations of the engine: of the state after the request, at no cost to others, and the same on a repeat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from adapters import Shrinkage
from app.engine import Engine
from app.errors import StreamNotFoundError
from app.serving.explanations import explain_sample
from app.serving.replays import fingerprint
from app.types import Call, Prediction
from tests.app.small import burst, core_of, png, same, small_engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = small_engine(strategy="auto")
    yield engine
    await engine.close()


async def test_the_explanation_is_that_of_the_stream_after_the_answer(engine: Engine) -> None:
    for i in range(3):
        answer = await engine.predict(Call([png(i), png(i + 10)], "s", explain=True))
        (state,) = await engine.stream("s")
        assert answer.explanation is not None
        assert answer.explanation == state.explanation
        assert answer.explanation.averaged_images == 2 * (i + 1)
        assert answer.explanation.corrector is None


async def test_a_request_that_does_not_update_explains_the_state_as_it_is(engine: Engine) -> None:
    before = await engine.predict(Call([png(1), png(2)], "s", explain=True))
    after = await engine.predict(Call([png(3)], "s", update=False, explain=True))
    assert after.explanation == before.explanation
    unknown = await engine.predict(Call([png(3)], "t", update=False, explain=True))
    assert unknown.explanation is not None
    assert unknown.explanation.trained == 1.0
    with pytest.raises(StreamNotFoundError):
        await engine.stream("t")


async def test_a_request_that_begins_its_stream_explains_the_new_one(engine: Engine) -> None:
    for i in range(3):
        await engine.predict(Call([png(i)], "s"))
    again = await engine.predict(Call([png(7)], "s", start=True, explain=True))
    assert again.explanation is not None
    assert again.explanation.averaged_images == 1
    last = await engine.predict(Call([png(8)], "s", end=True, explain=True))
    assert last.explanation is not None
    assert last.explanation.averaged_images == 2


async def test_a_strategy_without_memory_leans_on_the_training_data(engine: Engine) -> None:
    answer = await engine.predict(Call([png(1)], "s", "source", explain=True))
    assert answer.explanation is not None
    assert answer.explanation.words == "The next image is normalized with statistics of the training data (100 %)."
    assert (answer.explanation.trained, answer.explanation.averaged_images) == (1.0, None)


async def test_requests_that_wait_together_explain_the_state_after_each(engine: Engine) -> None:
    calls = [Call([png(i)], "s", explain=i % 2 == 1) for i in range(6)]
    together = await burst(engine, calls)
    for call, answer in zip(calls, together, strict=True):
        separate = await engine.predict(replace(call, stream="t"))
        assert isinstance(answer, Prediction)
        assert same(answer, separate)
        assert (answer.explanation is not None) == call.explain
        if answer.explanation is not None and separate.explanation is not None:
            assert answer.explanation.words == separate.explanation.words
            assert answer.explanation.averaged_images == separate.explanation.averaged_images


async def test_a_repeated_request_gets_the_same_explanation(engine: Engine) -> None:
    call = Call([png(1)], "s", request_id="a", explain=True)
    first = await engine.predict(call)
    await engine.predict(Call([png(2)], "s"))
    assert (await engine.predict(call)).explanation is first.explanation
    assert fingerprint(call) != fingerprint(replace(call, explain=False))


async def test_a_sample_is_of_the_states_used_last_as_they_were(engine: Engine) -> None:
    for name in ("old", "middle", "new"):
        await engine.predict(Call([png(1), png(2)], name))
    await engine.predict(Call([png(1)], "middle", "adabn"))
    explain = explain_sample(core_of(engine).model, core_of(engine).table.recent(3))
    before = [(await engine.stream(name))[0].explanation for name in ("new", "middle")]
    assert await engine.explanations(limit=3) == explain()
    await engine.predict(Call([png(3), png(4)], "new"))
    await engine.reset("middle")
    assert [name for name, _ in explain()] == ["adabn", "auto", "auto"]
    assert [explanation for _, explanation in explain()][:2] == [before[1], before[0]]
    assert len(await engine.explanations(limit=50)) == 2


async def test_a_state_that_cannot_be_explained_is_left_out_of_a_sample(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a plugin")

    await engine.predict(Call([png(1)], "good", "adabn"))
    await engine.predict(Call([png(1)], "bad", "shrinkage"))
    monkeypatch.setattr(Shrinkage, "leaning", fail)
    assert [name for name, _ in await engine.explanations(limit=9)] == ["adabn"]
    assert "a state of strategy 'shrinkage' cannot be explained" in caplog.text


@pytest.mark.parametrize("strategy", ["adabn", "tent", "rotta", "unmix_tns+lame", "adabn+tent+lame", "bn", "cofa"])
async def test_every_kind_of_strategy_is_explained(engine: Engine, strategy: str) -> None:
    for i in range(2):
        answer = await engine.predict(Call([png(i), png(i + 7)], "s", strategy, explain=True))
    assert answer.explanation is not None
    assert answer.explanation.words.endswith(".")
    weights = (answer.explanation.request, answer.explanation.memory, answer.explanation.trained)
    if None not in weights:
        assert sum(weight for weight in weights if weight is not None) == pytest.approx(1.0, abs=1e-3)
