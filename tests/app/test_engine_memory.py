"""What a stream costs: exactly what the model's description says, for every strategy, in memory of its own."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import STRATEGIES
from adapters.state.arena import BLOCK_BYTES
from app.errors import BusyError
from app.types import Call, Prediction
from tests.app.small import burst, core_of, png, small_engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("strategy", list(STRATEGIES))
async def test_bytes_per_stream_are_what_the_description_says(strategy: str) -> None:
    engine = small_engine()
    told = engine.describe().state_bytes[strategy]
    # Alone, and many in one forward, where states are computed together.
    await engine.predict(Call([png(1), png(2)], "alone", strategy))
    await burst(engine, [Call([png(i)], f"s{i % 5}", strategy) for i in range(8)])
    # Behind the lessons of streams that learn.
    names = ["alone", *(f"s{i}" for i in range(5))]
    await burst(engine, [Call([png(1)], name, strategy, update=False) for name in names])
    held = core_of(engine).table.memories({key for key in core_of(engine).table._records if key.stream != "first"})
    assert len(held) == 6
    for memory in held.values():
        assert memory.row.is_contiguous()
        fields = [memory.row, memory.drift_sums, *(field for part in memory.parts for field in part)]
        assert sum(field.numel() * field.element_size() for field in fields) == told
        # What is no row has memory of its own: no view keeps a batch alive.
        assert all(field.untyped_storage().nbytes() == field.nbytes for field in fields[1:])
    blocks = {m.row.untyped_storage().data_ptr(): m.row.untyped_storage().nbytes() for m in held.values()}
    assert sum(blocks.values()) <= max(BLOCK_BYTES, told * len(held))
    infos = await engine.streams()
    assert [info.bytes for info in infos.streams if info.stream != "first"] == [told] * 6
    assert infos.bytes == sum(info.bytes for info in infos.streams)
    await engine.close()


@pytest.mark.parametrize("strategy", ["adabn", "robust_bn", "unmix_tns", "adabn+lame", "cofa"])
async def test_the_capacity_in_bytes_holds_as_many_streams_as_it_has_room_for(strategy: str) -> None:
    probe = small_engine()
    await probe.predict(Call([png(9)], "probe", strategy))
    row = (await probe.streams()).bytes
    await probe.close()
    engine = small_engine(max_state_bytes=3 * row + row // 2)
    for i in range(5):
        await engine.predict(Call([png(i)], f"s{i}", strategy))
    infos = await engine.streams()
    assert [info.stream for info in infos.streams] == ["s4", "s3", "s2"]
    assert (infos.bytes, infos.capacity_bytes, infos.evictions) == (3 * row, 3 * row + row // 2, 2)
    # Forgotten is new: the first stream begins anew, and the least recently used one makes room.
    assert (await engine.predict(Call([png(0)], "s0", strategy))).step == 1
    assert [info.stream for info in (await engine.streams()).streams] == ["s0", "s4", "s3"]
    await engine.close()


async def test_the_answer_says_where_the_stream_was_found() -> None:
    engine = small_engine(max_streams=2)

    async def origin(stream: str, **said: Any) -> str:
        return (await engine.predict(Call([png(1)], stream, "adabn", **said))).state_origin

    assert [await origin(name) for name in "aabc"] == ["new", "live", "new", "new"]
    assert await origin("b", update=False) == "evicted"
    assert await origin("b") == "evicted"
    assert await origin("b") == "live"
    assert await origin("b", start=True) == "new"
    assert await origin("b", end=True) == "live"
    assert await origin("b") == "new"
    assert await engine.reset() == 2
    assert [await origin(name) for name in "ac"] == ["new", "new"]
    await engine.close()


async def test_requests_that_share_a_forward_are_told_apart() -> None:
    engine = small_engine()
    calls = [Call([png(i)], "s", "adabn", update=i > 0) for i in range(4)]
    answers = await burst(engine, calls)
    assert [a.state_origin for a in answers if isinstance(a, Prediction)] == ["new", "new", "live", "live"]
    await engine.close()


async def test_a_stream_beyond_the_room_is_refused_and_those_in_use_go_on() -> None:
    engine = small_engine(max_streams=2)
    for name in "abab":
        await engine.predict(Call([png(1)], name, "adabn", client=name))
    with pytest.raises(BusyError, match="no room for a new stream"):
        await engine.predict(Call([png(1)], "c", "adabn", client="c"))
    assert (await engine.predict(Call([png(1)], "c", "adabn", update=False, client="c"))).state_origin == "new"
    assert [(await engine.predict(Call([png(1)], name, "adabn"))).step for name in "ab"] == [3, 3]
    await engine.close()
