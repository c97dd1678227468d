"""Compiled forwards: the same answers as eager ones, few graphs, kept on disk, and a fall-back that is heard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adapters.compilation.compiled
from adapters import AdaptiveModel, AnyAdapter, Request, names
from adapters import adapter as strategy
from adapters.checks.model import OVERFLOWS, SmallNet
from adapters.compilation.aot import compile_to
from adapters.naming import strategy as composed
from adapters.normalization.linear import as_linear
from tests.nets import Explosive, Tiny, images, seeded

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")


@pytest.fixture(autouse=True)
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Graphs are kept for the next run: their names tell the operations, so whatever changes one compiles it anew."""
    from torch._inductor import config

    kept: Path = request.config.cache.mkdir("graphs")
    monkeypatch.setenv("RENORM_CACHE_DIR", str(kept))
    # A third less time for the compiler, on code that only calls what is computed.
    with config.patch({"aot_inductor.compile_wrapper_opt_level": "O0"}):
        yield kept


def _forwards(own: AnyAdapter) -> Iterator[list[Request]]:
    """Forwards of all kinds: alone, large, many streams, queued, without update, and several sizes."""
    yield [Request(images(1, 1), "a", own)]
    yield [Request(images(1, 2), "a", own)]
    yield [Request(images(5, 3), "a", own)]
    yield [Request(images(1, 10 + k), f"s{k}", own) for k in range(3)]
    yield [Request(images(1, 20 + k), f"s{k}", own) for k in range(7)]
    yield [Request(images(4, 30 + k), f"s{k}", own) for k in range(2)]
    yield [Request(images(2, 40), "a", own, update=False)]
    yield [Request(images(1, 50 + k), "a", own) for k in range(4)]
    yield [Request(images(n, 60 + n), "a" if n % 2 else "b", own) for n in (1, 2, 3)]
    names = ["source", "bn", "alpha_bn", "robust_bn"]
    yield [Request(images(k + 1, 70 + k), "a", strategy(name)) for k, name in enumerate(names)]


@needs_compiler
def test_warming_up_makes_every_missing_graph_and_tells_of_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the folder that is kept: a run of the tests compiles what changed since the one before, a first run all."""
    told: list[str] = []
    before = set(folder.iterdir())
    model = AdaptiveModel(seeded(SmallNet), "adabn", compile=True)
    model.warm_up(images(1), told.append)
    made = set(folder.iterdir()) - before
    assert [line.split()[0] for line in told] == ["compiling", "compiled"] * len(made)
    for line in told[::2]:
        assert f"of shape [3, 16, 16] (kept in {folder} for the next start)" in line
    assert model.state_dict()["streams"] == []
    told.clear()
    with caplog.at_level(logging.WARNING, "renorm"):
        model(images(1)), model(images(6)), model(images(2, size=12))
    assert told == []
    assert (
        "no graph was made for the forward of linear strategies for many requests of shape [3, 12, 12]" in caplog.text
    )
    assert model.compiled is not None
    assert model.compiled.graph_count == 2
    again = AdaptiveModel(seeded(SmallNet), "adabn", compile=True)
    again.warm_up(images(1), told.append)
    assert told == []


# Each graph takes the compiler seconds: all kinds of forwards make theirs for one strategy that is not linear, and the
# first ones for another.
VARIANTS: list[tuple[str, dict[str, Any], int, int | None]] = [
    ("adabn", {}, 2, None),
    ("adabn", {"unbiased": True, "own": False}, 2, None),
    ("unmix_tns", {"components": 3}, 5, None),
    ("adabn", {"cumulative": True}, 1, 2),
]


@needs_compiler
@pytest.mark.parametrize(("name", "params", "graphs", "forwards"), VARIANTS)
def test_compiled_answers_as_eager_with_few_graphs(
    name: str, params: dict[str, Any], graphs: int, forwards: int | None
) -> None:
    own = strategy(name, params)
    compiled, eager = AdaptiveModel(seeded(SmallNet), own, compile=True), AdaptiveModel(seeded(SmallNet), own)
    eager(images(1)), compiled(images(1))  # the first forward is eager: it finds the sites
    for asked in islice(_forwards(own), forwards):
        for ours, theirs in zip(compiled.predict(asked), eager.predict(asked), strict=True):
            torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
            assert ours.drift == pytest.approx(theirs.drift, rel=1e-4)
            assert ours.adaptation == pytest.approx(theirs.adaptation, rel=1e-4)
            assert ours[3:] == theirs[3:]
        _same_states(compiled, eager)
    assert compiled.compiled is not None
    assert compiled.compiled.graph_count == graphs


def _same_states(ours: AdaptiveModel, theirs: AdaptiveModel) -> None:
    pairs = zip(ours.state_dict()["streams"], theirs.state_dict()["streams"], strict=True)
    for mine, yours in pairs:
        assert {**mine, "row": None, "drift_sums": None} == {**yours, "row": None, "drift_sums": None}
        torch.testing.assert_close(mine["drift_sums"], yours["drift_sums"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mine["row"], yours["row"], rtol=1e-5, atol=1e-5)
        assert mine["row"].untyped_storage().nbytes() == mine["row"].nbytes


@needs_compiler
@pytest.mark.parametrize("name", names("adapter"))
def test_graphs_of_linear_strategies_serve_each_of_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.compilation.compiled, "compile_to", _must_not_compile)
    model = AdaptiveModel(seeded(SmallNet), name, compile=True)
    model.run([Request(images(1))], {})
    if as_linear(strategy(name)) is not None:
        assert torch.allclose(model(images(3, 1)), AdaptiveModel(seeded(SmallNet), name)(images(3, 1)), atol=1e-5)
        assert model.compiled is not None
        assert model.compiled.graph_count == 1


@needs_compiler
@pytest.mark.parametrize("name", ["adabn+tent", "adabn+lame", "adabn+cofa+temperature", "rotta"])
def test_learners_and_correctors_work_with_graphs(name: str) -> None:
    own = composed(name, {"temperature": 2.0} if "temperature" in name else {})
    compiled, eager = AdaptiveModel(seeded(SmallNet), own, compile=True), AdaptiveModel(seeded(SmallNet), own)
    for step in range(4):
        asked = [Request(images(5, step), "a"), Request(images(2, 9 + step), "b")]
        for ours, theirs in zip(compiled.predict(asked), eager.predict(asked), strict=True):
            torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)
    assert compiled.compiled is not None
    assert (compiled.compiled.graph_count > 0) == (name in {"adabn+lame", "adabn+cofa+temperature"})


def _must_not_compile(*_: object) -> None:
    raise AssertionError("this graph lies on disk")


@needs_compiler
def test_other_weights_are_another_graph(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(adapters.compilation.compiled, "compile_to", _must_not_compile)
    network = seeded(SmallNet)
    network.head.weight.data[0, 0] += 1e-3
    model = AdaptiveModel(network, "adabn", compile=True)
    model(images(1))
    with caplog.at_level(logging.WARNING, "renorm"):
        model(images(1))
    assert "this graph lies on disk" in caplog.text


@needs_compiler
def test_requests_that_are_not_finite_are_refused_separately() -> None:
    compiled, eager = AdaptiveModel(seeded(SmallNet), "adabn", compile=True), AdaptiveModel(seeded(SmallNet), "adabn")
    bad = images(2, 1).index_fill(3, torch.tensor([0]), 2 * OVERFLOWS)
    asked = [Request(images(2), "a"), Request(bad, "a"), Request(images(1, 2), "b"), Request(images(3, 4), "a")]
    for model in (compiled, eager):
        model(images(1))
    for ours, theirs in zip(compiled.predict(asked), eager.predict(asked), strict=True):
        assert (ours.finite, ours.updated, ours.step) == (theirs.finite, theirs.updated, theirs.step)
    _same_states(compiled, eager)


def test_without_a_compiler_everything_runs_eagerly_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("g++ not found\nand more")

    monkeypatch.setattr(adapters.compilation.compiled, "compile_to", broken)
    model, eager = AdaptiveModel(seeded(Explosive), "adabn", compile=True), AdaptiveModel(seeded(Explosive), "adabn")
    with caplog.at_level(logging.WARNING, "renorm"):
        for seed in range(4):
            assert torch.equal(model(images(2, seed)), eager(images(2, seed)))
    (record,) = caplog.records
    words = "cannot be compiled: RuntimeError: g++ not found"
    assert record.getMessage().endswith(words)
    assert record.levelname == "WARNING"


class Counting(Tiny):
    """What it computes depends on its input's values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.mean()) > 0 else -x)


def test_a_network_that_cannot_be_traced_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    model, eager = AdaptiveModel(seeded(Counting), "adabn", compile=True), AdaptiveModel(seeded(Counting), "adabn")
    with caplog.at_level(logging.WARNING, "renorm"):
        for seed in range(3):
            assert torch.equal(model(images(2, seed)), eager(images(2, seed)))
    assert len(caplog.records) == 1
    assert "cannot be compiled" in caplog.text


@needs_compiler
def test_mixed_strategies_without_a_graph_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    model = AdaptiveModel(seeded(SmallNet), "adabn", compile=True)
    model(images(1))
    unmix = strategy("unmix_tns")
    with caplog.at_level(logging.WARNING, "renorm"):
        for _ in range(2):
            model.predict([Request(images(1), "a"), Request(images(1), "b", unmix)])
            model.predict([Request(images(1), "b", unmix)])
    assert [record.getMessage() for record in caplog.records] == [
        "running eagerly: forwards that mix strategies which are not linear with others are not compiled",
        f"running eagerly: only linear strategies and the model's own are compiled, not {unmix}",
    ]


def test_a_half_written_graph_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, package_path: str, **__: object) -> None:
        Path(package_path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", interrupted)
    program = torch.export.export(nn.Linear(1, 1), (torch.zeros(1, 1),))
    with pytest.raises(KeyboardInterrupt):
        compile_to(program, tmp_path / "graphs" / "one.pt2")
    assert list((tmp_path / "graphs").iterdir()) == []
