"""Fitted temperatures in answers: whose they are, where they come from, and what happens where there are none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import ParameterError, UnknownStrategyError, as_composite, params_of, strategy
from app.error_table import describe_error
from app.errors import StreamNotFoundError
from app.evaluation.specs import parse_specs
from app.settings import Settings
from app.strategies import StrategyResolver, file_of, in_front, key_of, model_of
from app.temperatures import Calibration, CalibrationError, Temperatures, default_file
from app.types import Call, Prediction
from tests.app.small import hosted, png, small_engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def keep(file: Path, **temperatures: float) -> Path:
    """A file with these temperatures of the small network, and with one of a network that nobody hosts."""
    held = Temperatures().including("other", "bn", Calibration(9.0, 10, 0, 1.0, 1.0, 1.0, 1.0))
    for name, value in temperatures.items():
        held = held.including("net", name, Calibration(value, 10, 0, 1.0, 1.0, 1.0, 1.0))
    held.save(file)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return keep(tmp_path / "temperatures.json", source=2.0, adabn=3.0, unmix_tns=4.0)


async def answers(file: Path, *asked: tuple[str, dict[str, Any]], images: int = 6) -> list[Prediction]:
    engine = small_engine(temperatures=file)
    sent = [png(seed) for seed in range(images)]
    try:
        return [await engine.predict(Call(sent, f"s{i}", name, params)) for i, (name, params) in enumerate(asked)]
    finally:
        await engine.close()


# Whose a temperature is


@pytest.mark.parametrize(
    ("name", "params", "key"),
    [
        ("temperature", {}, "source"),
        ("adabn+temperature", {"temperature.temperature": 2.0}, "adabn"),
        ("adabn+temperature", {"momentum": 0.1}, "adabn"),
        ("adabn+temperature", {"momentum": 0.25}, "adabn:momentum=0.25"),
        ("adabn+temperature", {"momentum": 1}, "adabn:momentum=1"),
        ("adabn+temperature", {"momentum": 1.0}, "adabn:momentum=1"),
        ("unmix_tns+temperature+lame", {"lame.memory": 8}, "unmix_tns"),
        ("adabn+tent+temperature", {"tent.lr": 0.01}, "adabn+tent:tent.lr=0.01"),
        ("rotta+temperature", {}, "rotta"),
    ],
)
def test_the_key_is_what_stands_before_the_temperature(name: str, params: dict[str, Any], key: str) -> None:
    front = in_front(as_composite(strategy(name, params)))
    assert key_of(front) == key
    # And it can be read back: by `renorm calibrate-temperature --strategy`.
    (spec,) = parse_specs([key])
    again = strategy(spec.strategy, spec.params)
    assert key_of(again) == key
    assert params_of(again) == params_of(front)


def test_a_model_with_its_own_weights_is_another_model(tmp_path: Path) -> None:
    assert model_of(hosted(), Settings()) == "net"
    assert model_of(hosted(), Settings(weights=tmp_path / "mine.pt")) == "net mine.pt"
    assert model_of(hosted(), Settings(weights=tmp_path / "mine.pt", weights_key="ema")) == "net mine.pt ema"


def test_the_file_is_in_the_users_data_folder_unless_it_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", given)
        assert default_file() == Path("/home/me/.local/share/renorm/temperatures.json")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert file_of(Settings()) == tmp_path / "renorm" / "temperatures.json"
    monkeypatch.setenv("RENORM_TEMPERATURES", "here.json")
    assert file_of(Settings()) == Path("here.json")


def test_a_user_without_a_home_has_one_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert default_file() == Path("/.local/share/renorm/temperatures.json")


# What is answered


@pytest.mark.parametrize(("name", "value"), [("source", 2.0), ("adabn", 3.0), ("unmix_tns", 4.0)])
async def test_answers_are_divided_by_what_was_fitted(file: Path, name: str, value: float) -> None:
    plain, scaled = await answers(file, (name, {}), (f"{name}+temperature", {}))
    expected = (plain.probabilities.double().log() / value).softmax(1)
    assert torch.allclose(scaled.probabilities.double(), expected, atol=1e-6)
    assert torch.equal(scaled.probabilities.argmax(1), plain.probabilities.argmax(1))
    assert (scaled.probabilities.amax(1) < plain.probabilities.amax(1)).all()
    assert scaled.params["temperature.temperature"] == value


async def test_the_part_alone_is_that_of_the_frozen_model(file: Path) -> None:
    alone, named = await answers(file, ("temperature", {}), ("source+temperature", {}))
    assert torch.equal(alone.probabilities, named.probabilities)
    assert alone.params == named.params
    assert alone.params["temperature.temperature"] == 2.0
    assert alone.strategy == named.strategy == "temperature"


@pytest.mark.parametrize("name", ["temperature.temperature", "temperature"])
async def test_a_temperature_that_is_given_wins(file: Path, name: str) -> None:
    given, fitted = await answers(file, ("adabn+temperature", {name: 1.5}), ("adabn+temperature", {"momentum": 0.1}))
    assert given.params["temperature.temperature"] == 1.5
    assert fitted.params["temperature.temperature"] == 3.0
    assert given.params["adabn.momentum"] == fitted.params["adabn.momentum"] == 0.1


async def test_a_temperature_of_another_part_is_left_alone(file: Path) -> None:
    asked = ("unmix_tns+temperature+lame", {"unmix_tns.temperature": 0.07})
    (found,) = await answers(file, asked)
    assert found.params["unmix_tns.temperature"] == 0.07
    assert found.params["temperature.temperature"] == 4.0
    with pytest.raises(ParameterError, match="parameter 'temperature' is ambiguous"):
        await answers(file, ("unmix_tns+temperature", {"temperature": 2.0}))


async def test_the_default_strategy_may_have_one(file: Path) -> None:
    engine = small_engine(temperatures=file, strategy="adabn+temperature")
    found = await engine.predict(Call([png(1)]))
    assert found.params["temperature.temperature"] == 3.0
    await engine.close()
    with pytest.raises(ParameterError, match="no temperature was fitted"):
        small_engine(temperatures=file, strategy="bn+temperature")


# Where there is none


@pytest.mark.parametrize(
    ("name", "params", "key"),
    [("bn+temperature", {}, "bn"), ("adabn+temperature", {"momentum": 0.3}, "adabn:momentum=0.3")],
)
async def test_none_that_was_fitted_is_an_error_that_says_how_to_fit_it(
    file: Path, name: str, params: dict[str, Any], key: str
) -> None:
    engine = small_engine(temperatures=file)
    with pytest.raises(ParameterError) as caught:
        await engine.predict(Call([png(1)], "a", name, params))
    told = str(caught.value)
    assert f"for the model 'net' with the strategy '{key}'" in told
    assert f"`renorm calibrate-temperature --model cifar10-resnet20 --strategy {key} --data FOLDER`" in told
    assert "give the parameter temperature.temperature" in told
    assert describe_error(caught.value).status == 422
    with pytest.raises(StreamNotFoundError):
        await engine.stream("a")
    await engine.close()


async def test_no_file_is_no_temperature(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no temperature was fitted"):
        await answers(tmp_path / "none.json", ("temperature", {}))
    plain, given = await answers(tmp_path / "none.json", ("adabn", {}), ("temperature", {"temperature": 2.0}))
    assert plain.params["momentum"] == 0.1
    assert given.params["temperature.temperature"] == 2.0


async def test_other_mistakes_are_told_first(file: Path) -> None:
    with pytest.raises(UnknownStrategyError):
        await answers(file, ("magic+temperature", {}))
    with pytest.raises(ParameterError, match="momentum"):
        await answers(file, ("bn+temperature", {"momentum": 1}))


def test_a_broken_file_keeps_the_engine_from_starting(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(CalibrationError, match="not valid JSON"):
        small_engine(temperatures=tmp_path / "broken.json")


# When the file changes


async def test_temperature_fitted_meanwhile_is_used_at_once(file: Path) -> None:
    engine = small_engine(temperatures=file)

    async def ask() -> tuple[float, int]:
        found = await engine.predict(Call([png(1), png(2)], "a", "adabn+temperature"))
        return found.params["temperature.temperature"], found.step

    assert await ask() == (3.0, 1)
    assert await ask() == (3.0, 2)
    keep(file, adabn=5.0)
    # Another value is another strategy, with a state of its own.
    assert await ask() == (5.0, 1)
    assert len(await engine.stream("a")) == 2
    keep(file, source=5.0)
    with pytest.raises(ParameterError, match="no temperature was fitted"):
        await ask()
    keep(file, adabn=3.0)
    assert await ask() == (3.0, 3)
    file.rename(file.with_name("gone"))  # noqa: ASYNC240
    with pytest.raises(ParameterError, match="no temperature was fitted"):
        await ask()
    await engine.close()


def test_a_file_that_breaks_is_logged_once_and_what_was_read_stays(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibrated = StrategyResolver(Settings(temperatures=file), hosted())
    caplog.set_level(logging.INFO, "renorm")
    file.write_text("{")
    for _ in range(3):
        assert calibrated.resolve("adabn+temperature", {}).params["temperature.temperature"] == 3.0
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(file) in caplog.text
    keep(file, adabn=6.0)
    assert calibrated.resolve("adabn+temperature", {}).params["temperature.temperature"] == 6.0


def test_strategy_without_temperature_reads_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated = StrategyResolver(Settings(temperatures=file), hosted())

    def forbidden(_: Path) -> None:
        raise AssertionError("the file was looked at")

    monkeypatch.setattr("app.strategies.file_fingerprint", forbidden)
    assert calibrated.resolve("adabn", {}).name == "adabn"
    assert calibrated.resolve("adabn+temperature", {"temperature": 2.0}).params["temperature.temperature"] == 2.0
    with pytest.raises(AssertionError, match="looked at"):
        calibrated.resolve("adabn+temperature", {})
