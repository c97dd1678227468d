"""The whole benchmark on tiny networks: what it times, what it writes, what it does where something is missing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Answer, Request, names
from benchmarks.speed import __main__ as speed
from benchmarks.speed import cases as speed_cases
from benchmarks.speed import memory as speed_memory
from benchmarks.speed import run as speed_run
from benchmarks.speed.__main__ import main, parser, planned
from benchmarks.speed.cases import ALPHA, CHANNELS_LAST, FOLDED, FROZEN, MANY, MIXED, ONE, PLAIN, QUEUED, UNMIX
from benchmarks.speed.clock import Case, Clock, measure
from benchmarks.speed.models import MODELS, Model
from benchmarks.speed.results import SpeedResults, read
from benchmarks.speed.run import SpeedPlan
from tests.nets import CLASSES, Tiny, images, seeded

Tick = Callable[[str], None]

REFERENCES = [PLAIN, CHANNELS_LAST, FOLDED, ALPHA, UNMIX]


def tiny() -> nn.Module:
    return seeded(Tiny).eval()


def measure_once(cases: Sequence[Case], rounds: int, clock: Clock, _: float, tick: Tick) -> dict[str, list[float]]:
    """Measure with one call a sample: these tests ask what is measured, not how exactly."""
    return measure(cases, rounds, clock, 0.0, tick)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks by the names that targets know, measured in this process."""
    made = {
        "resnet20": Model("ResNet-20", tiny, 8, (1, 2), has_streams=True, quick=True),
        "resnet50": Model("ResNet-50", tiny, 40, (1,), has_streams=True, memory=True, quick=True),
        "efficientnet_b0": Model("EfficientNet-B0", tiny, 40, (1,)),
    }
    for name, model in made.items():
        monkeypatch.setitem(MODELS, name, model)
    monkeypatch.setattr(speed_run, "measure", measure_once)
    monkeypatch.setattr(speed_run, "TOGETHER", 4)
    monkeypatch.setattr(speed_memory, "SIZE", 8)
    monkeypatch.setattr(speed_memory, "call_in_new_process", lambda function, *given: function(*given))


def run(out: Path, *arguments: str) -> SpeedResults:
    assert main(["--quick", "--rounds", "1", "--out", str(out), *arguments]) == 0
    return read(out / "speed.json")


def named(found: SpeedResults, kind: str) -> list[tuple[str, int]]:
    return [(group.model, group.batch) for group in found.groups if group.kind == kind]


def test_a_quick_run_measures_and_writes_all_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(tmp_path / "new")
    assert named(found, "eager") == [("resnet20", 1), ("resnet50", 1)]
    assert named(found, "streams") == [("resnet20", 4)]
    assert named(found, "compiled") == []
    assert list(found.groups[0].seconds) == [*REFERENCES, *names("adapter")]
    assert all(len(times) == 1 and times[0] > 0 for group in found.groups for times in group.seconds.values())
    cases = [f"{name}: {label}" for name in names("adapter") for label in (ONE, MANY, QUEUED)]
    assert list(found.groups[1].seconds) == [*cases, f"{MIXED}: {MANY}"]
    assert found.held is not None
    model = AdaptiveModel(tiny(), "adabn")
    model.warm_up(torch.rand(1, 3, 8, 8))
    assert (found.held.streams, found.held.state_bytes) == (300, model.state_bytes())
    assert found.machine["command"].startswith("python -m benchmarks.speed --quick --rounds 1 --out ")
    text, printed = (tmp_path / "new" / "speed.md").read_text(), capsys.readouterr().out
    assert (tmp_path / "new" / "images" / "speed.png").stat().st_size > 1000
    for line in ("| ResNet-20, batch 1, against plain eval |", "machine: ", "torch: ", "threads: "):
        assert line in text
        assert line in printed


def test_options_choose_what_is_measured(tmp_path: Path) -> None:
    options = ["--models", "efficientnet_b0", "--batch", "3", "--strategies", "adabn", "--threads", "1"]
    found = run(tmp_path, *options)
    assert [(group.kind, group.model, group.batch) for group in found.groups] == [("eager", "efficientnet_b0", 3)]
    assert list(found.groups[0].seconds) == [*REFERENCES, "adabn"]
    assert found.held is None


def plan(*arguments: str) -> SpeedPlan:
    return planned(parser().parse_args(arguments))


def test_by_default_everything_is_measured() -> None:
    full = plan()
    assert full.models == [*full.stream_models, "efficientnet_b0"]
    assert full.sizes("resnet20") == [1, 2]
    assert (full.stored_streams, full.memory, full.compiled) == (1000, "resnet50", names("adapter"))
    assert plan("--no-compile").compiled == plan("--quick").compiled == []
    assert plan("--quick", "--compile", "--strategies", "bn").compiled == ["bn"]
    assert plan("--compile-strategies", "adabn", "unmix_tns").compiled == ["adabn", "unmix_tns"]
    assert plan("--models", "resnet20").memory is None


def test_timed_cases_compute_their_strategies() -> None:
    network, x = tiny(), images(3)
    with torch.no_grad():
        expected = network(x)
    cases: dict[str, Callable[[], Any]] = {case.name: case.call for case in speed_cases.eager(network, x, ["source"])}
    for name in (PLAIN, CHANNELS_LAST, FOLDED):
        torch.testing.assert_close(cases[name](), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cases["source"]()[0].logits, expected, rtol=1e-4, atol=1e-4)
    for name in (ALPHA, UNMIX):
        assert cases[name]().shape == (3, CLASSES)
        assert not torch.allclose(cases[name](), expected, atol=1e-3)


def test_many_streams_answer_for_every_image_with_their_strategy() -> None:
    made = speed_cases.streams(tiny(), images(4), ["source", "adabn"])
    cases: dict[str, Callable[[], Any]] = {case.name: case.call for case in made}
    for strategy in ("source", "adabn"):
        assert [answer.step for answer in cases[f"{strategy}: {ONE}"]()] == [1]
        assert [answer.step for answer in cases[f"{strategy}: {MANY}"]()] == [1] * 4
        assert [answer.step for answer in cases[f"{strategy}: {QUEUED}"]()] == [1, 2, 3, 4]
    mixed = cases[f"{MIXED}: {MANY}"]()
    expected = tiny()(images(4))
    close = [torch.allclose(answer.logits[0], row, atol=1e-4) for answer, row in zip(mixed, expected, strict=True)]
    assert close == [True, False, True, False]


class Promised(AdaptiveModel):
    """A model that compiles nothing, and may say so at its first forward, once."""

    said: str | None = None

    def __init__(self, network: nn.Module, strategy: str = "adabn", *, compile: bool = False) -> None:
        super().__init__(network, strategy)
        self.saying = self.said if compile else None

    def predict(self, requests: Sequence[Request]) -> list[Answer]:
        if self.saying:
            logging.getLogger("renorm").warning("running eagerly: %s", self.saying)
            self.saying = None
        return super().predict(requests)


def uncompiled(network: Callable[[Tensor], Tensor], **options: Any) -> Callable[[Tensor], Tensor]:
    assert options == {"dynamic": False}
    return network


def test_compiled_cases_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", uncompiled)
    monkeypatch.setattr(speed_cases, "AdaptiveModel", Promised)
    found = run(tmp_path, "--compile", "--compile-strategies", "adabn", "bn", "--batch", "1", "2")
    assert [group.kind for group in found.groups] == ["eager"] * 2 + ["streams"] + ["eager"] * 2 + ["compiled"] * 4
    assert named(found, "compiled") == [(name, batch) for name in ("resnet20", "resnet50") for batch in (1, 2)]
    assert list(found.groups[-1].seconds) == [PLAIN, FROZEN, "adabn", "bn"]


def test_a_missing_compiler_is_told_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_given: Any, **_options: Any) -> None:
        raise RuntimeError("no C++ compiler\nlong advice")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setattr(speed_cases, "AdaptiveModel", Promised)
    monkeypatch.setattr(Promised, "said", "no compiler")
    strategies = ["adabn", "bn", "unmix_tns"]
    found = run(tmp_path, "--compile", "--models", "resnet20", "--batch", "2", "3", "--strategies", *strategies)
    for group in found.groups[-2:]:
        assert group.notes.pop(FROZEN) == "RuntimeError: no C++ compiler"
        assert group.notes == dict.fromkeys(strategies, "RuntimeError: running eagerly: no compiler")
        assert list(group.seconds) == [PLAIN]
    for text in (capsys.readouterr().out, (tmp_path / "speed.md").read_text()):
        assert "no C++ compiler" in text
        assert "long advice" not in text


def test_results_before_an_interrupt_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speed_run, "streams", interrupt)
    found = run(tmp_path)
    assert [group.kind for group in found.groups] == ["eager"]
    assert found.notes == {"rest": "interrupted"}


def test_results_before_an_error_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(speed_run, "streams", fail)
    assert main(["--quick", "--out", str(tmp_path)]) == 1
    found = read(tmp_path / "speed.json")
    assert [group.kind for group in found.groups] == ["eager"]
    assert found.notes == {"rest": "stopped by ValueError: no such thing"}


def test_memory_is_not_measured_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_memory, "Path", lambda _name: tmp_path / "missing")
    found = run(tmp_path, "--models", "resnet50")
    assert found.held is None
    assert "run it on Linux" in found.notes["memory"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_this_process_is_read() -> None:
    before = speed_memory.resident()
    kept = torch.ones(16 * 2**20, dtype=torch.uint8)
    grown = speed_memory.resident() - before
    assert len(kept) <= grown + 2**20 < 2 * len(kept) + 2**20


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cuda"]) == 1
    assert "leave out --device cuda" in capsys.readouterr().err


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> nn.Module:
        raise ModuleNotFoundError("No module named 'timm'")

    monkeypatch.setitem(MODELS, "resnet50", Model("ResNet-50", build, 8, (1,)))
    assert main(["--models", "resnet50", "--quick"]) == 1
    assert "timm" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--models", "vgg"], ["--batch", "0"], ["--rounds", "x"], ["--strategies", "x"]])
def test_wrong_options_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
    assert wrong[0] in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python -m benchmarks.speed --quick" in capsys.readouterr().out
    assert speed.__doc__ is not None
