"""`renorm calibrate-temperature`: from labelled images to a temperature that a server uses, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from app.cli import cli
from app.engine import Engine
from app.evaluation.datasets.domains import CLEAN, Domain
from app.evaluation.errors import DataError
from app.evaluation.temperature.collect import fit, open_labelled
from app.models.labels import ClassNames
from app.settings import Settings
from app.strategies import resolve
from app.temperatures import CalibrationError, Temperatures
from app.types import Call
from tests.app.overconfident import CLASSES, MODEL, OPTIONS, TRUE, network, write_arrays, write_files

SMALL = ("--model", MODEL, "--size", "8", "--device", "cpu", "--threads", "1")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arrays(tmp_path_factory.mktemp("calibrate") / "data")


@pytest.fixture
def calibrate(data: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(*options: object, folder: Path = data) -> Result:
        given = [*SMALL, "--data", folder, "--temperatures", tmp_path / "t.json", *options]
        return CliRunner().invoke(cli, ["calibrate-temperature", *map(str, given)])

    return run


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output + repr(result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refusal(result: Result, status: int) -> str:
    assert result.exit_code == status, result.output + repr(result.exception)
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("renorm: ")
    return last


# What is fitted


def test_an_overconfident_network_is_calibrated_and_the_server_uses_it(
    calibrate: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    found = told(calibrate("--strategy", "source", "--json"))
    assert found["temperature"] == pytest.approx(TRUE, rel=0.25)
    assert found["ece_after"] < found["ece_before"] / 2
    assert found["nll_after"] < found["nll_before"]
    assert (found["images"], found["held_out"], found["strategy"], found["model"]) == (300, 300, "source", MODEL)
    kept = Temperatures.load(tmp_path / "t.json").get(MODEL, "source")
    assert kept is not None
    assert kept._asdict() == {name: found[name] for name in kept._fields}

    async def ask() -> None:
        engine = await Engine.open(Settings(**OPTIONS, temperatures=tmp_path / "t.json"))
        images = torch.tensor(np.load(data / "clean.npy")[:40])
        plain, scaled = [await engine.predict(Call(images, "a", name)) for name in ("source", "source+temperature")]
        await engine.close()
        assert scaled.params["temperature.temperature"] == found["temperature"]
        assert torch.equal(scaled.probabilities.argmax(1), plain.probabilities.argmax(1))
        assert (scaled.probabilities.amax(1) < plain.probabilities.amax(1)).all()

    asyncio.run(ask())


def test_report_of_a_fit_and_a_second_strategy_in_the_same_file(
    calibrate: Callable[..., Result], tmp_path: Path
) -> None:
    first = calibrate("--strategy", "adabn:momentum=0.25", "--batch-size", "50", "--held-out", "0.25")
    assert first.exit_code == 0, first.output
    title, header, nll, ece, accuracy, *_, last = first.stdout.splitlines()
    assert f"for 'adabn:momentum=0.25' on {MODEL}, fitted on 450 images" in title
    assert header.split() == ["on", "150", "held-out", "images", "without", "with"]
    assert float(nll.split()[-2]) > float(nll.split()[-1])
    assert float(ece.split()[-2]) > float(ece.split()[-1])
    assert accuracy.split()[-2] == accuracy.split()[-1]
    assert (
        last
        == f"Saved to {tmp_path / 't.json'}. A server with this --temperatures file uses it for 'adabn+temperature'."
    )
    again = calibrate("--strategy", "bn", "--held-out", "0", "--limit", "200")
    assert again.exit_code == 0, again.output
    assert "fitted on 200 images\non the same images (optimistic)" in again.stdout
    assert sorted(Temperatures.load(tmp_path / "t.json").entries[MODEL]) == ["adabn:momentum=0.25", "bn"]


def test_the_same_call_fits_the_same(calibrate: Callable[..., Result]) -> None:
    ask = ("--strategy", "unmix_tns", "--limit", "120", "--json")
    assert told(calibrate(*ask)) == told(calibrate(*ask))


def test_the_strategy_is_the_servers_and_its_temperature_is_taken_out(
    calibrate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENORM_STRATEGY", "bn+temperature+lame")
    result = calibrate("--json", "--limit", "100")
    assert told(result)["strategy"] == "bn"
    assert "fitting the temperature of 'bn+temperature+lame' to the scores of 'bn'" in result.stderr


def test_engine_scores_equal_the_networks_logits(data: Path) -> None:
    # At a temperature of 1 probabilities this small are zero.
    async def run() -> tuple[float, float]:
        engine = await Engine.open(Settings(**OPTIONS))
        for parameter in engine.hosted.network.get_submodule("head").parameters():
            parameter.data *= 15
        found = open_labelled(data, CLASSES)
        answer = await engine.predict(Call(found.images.take(np.arange(128)), "a", "source"))
        fitted = await fit(engine, found, resolve("source", {}).strategy, batch=64)
        await engine.close()
        return float(answer.probabilities.min()), fitted.calibration.temperature

    least, temperature = asyncio.run(run())
    assert least == 0
    assert temperature == pytest.approx(15 * TRUE, rel=0.25)


# Images and labels


def _labels(folder: Path, classes: list[str] = CLASSES) -> list[int]:
    return [int(label) for label in open_labelled(folder, classes).labels]


@pytest.mark.parametrize("names", [CLASSES, CLASSES[::-1], ["0", "1", "2", "3"], ["03", "01", "02", "00"]])
def test_folders_are_named_as_classes_or_by_their_numbers(data: Path, tmp_path: Path, names: list[str]) -> None:
    write_files(data, tmp_path / "files", names)
    known = CLASSES if names[0].startswith("class") else ["ant", "bee", "cat", "dog"]
    numbers = [known.index(name) if name in known else int(name) for name in names]
    counts = np.bincount(np.load(data / "labels.npy"), minlength=4)
    assert np.bincount(_labels(tmp_path / "files", known), minlength=4)[numbers].tolist() == counts.tolist()


def test_folders_of_word_net_are_those_that_the_labels_have(data: Path, tmp_path: Path) -> None:
    ids = ("n01491361", "n01440764", "n01484850", "n01443537")
    write_files(data, tmp_path / "files" / CLEAN, list(ids))
    names = ("tiger", "tench", "shark", "goldfish")
    found = open_labelled(tmp_path / "files", ClassNames(names, ids))
    assert sorted(found.labels) == sorted(np.load(data / "labels.npy"))
    with pytest.raises(DataError, match=r"the folders 'n01440764', 'n01443537', .* are not classes") as caught:
        _labels(tmp_path / "files", list(names))
    assert "class_index.json" in caught.value.hint


def test_files_and_arrays_fit_alike(calibrate: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    folder = write_files(data, tmp_path / "files", CLASSES)
    options = ("--strategy", "source", "--held-out", "0", "--json")
    one, other = told(calibrate(*options)), told(calibrate(*options, folder=folder))
    # In another order; the frozen network does not mind.
    assert other["temperature"] == pytest.approx(one["temperature"], rel=1e-4)
    assert other["accuracy"] == one["accuracy"]


def test_a_name_that_is_no_class_or_that_two_have_is_refused(
    calibrate: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    folder = write_files(data, tmp_path / "files", ["class 0", "class_1", "class 2", "fog"])
    with pytest.raises(DataError, match="the folder 'fog' is not a class of the model") as caught:
        _labels(folder)
    assert "give --labels FILE, or name folders 0 to 3" in caught.value.hint
    with pytest.raises(DataError, match=r"'class 2' is ambiguous: it matches the classes 2 .*, 3 "):
        _labels(folder, ["class 0", "class 1", "class 2", "class 2"])
    result = calibrate("--skip-unknown", "--strategy", "source", "--json", folder=folder)
    assert "skipped, because the model has no such class: 'fog'" in result.stderr
    assert "1 of 3 folders matched in another spelling: class_1 is class 1" in result.stderr
    images = int((np.load(data / "labels.npy") < 3).sum())
    found = told(result)
    assert found["images"] + found["held_out"] == images


def test_data_without_images_or_labels(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        _labels(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no labels"):
        _labels(tmp_path / "empty")
    shutil.copytree(data, tmp_path / "copy")
    with pytest.raises(DataError, match=r"has the label 3, but the model has 3 classes"):
        _labels(tmp_path / "copy", CLASSES[:3])
    (tmp_path / "copy" / "clean.npy").unlink()
    with pytest.raises(DataError, match=r"has no clean\.npy"):
        _labels(tmp_path / "copy")
    (tmp_path / "copy" / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"labels\.npy is missing"):
        _labels(tmp_path / "copy")


# What is refused


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        (["--strategy", "magic"], 2, "unknown strategy 'magic'"),
        (["--strategy", "adabn:speed=1"], 2, "speed"),
        (["--strategy", "adabn,bn"], 2, "--strategy must be one strategy, not 'adabn,bn'"),
        (["--strategy", "lame"], 2, "before"),
        (["--limit", "1"], 2, "of 1 images 0 would be held out"),
        (["--model", "magic"], 1, "unknown model 'magic'"),
    ],
)
def test_wrong_input_is_one_line(
    calibrate: Callable[..., Result], tmp_path: Path, options: list[str], status: int, line: str
) -> None:
    assert line in refusal(calibrate(*options), status)
    assert not (tmp_path / "t.json").exists()


def test_labels_that_the_answers_tell_nothing_about(data: Path) -> None:
    async def run() -> None:
        engine = await Engine.open(Settings(**OPTIONS))
        found = open_labelled(data, CLASSES)
        wrong = type(found)(Domain(CLEAN, None, found.images.images), 3 - found.labels)
        try:
            await fit(engine, wrong, resolve("source", {}).strategy, batch=64)
        finally:
            await engine.close()

    with pytest.raises(CalibrationError, match="are unrelated to the labels"):
        asyncio.run(run())


def test_a_file_that_cannot_be_written_or_read(calibrate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(calibrate("--limit", "50", "--temperatures", tmp_path / "file" / "t.json"), 1)
    assert "cannot be" in said
    (tmp_path / "t.json").write_text("{")
    said = refusal(calibrate("--limit", "50"), 1)
    assert "not valid JSON" in said
    assert "remove it and fit again" in said
    assert (tmp_path / "t.json").read_text() == "{"


def test_a_stop_keeps_nothing(
    calibrate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "predict", stopped)
    assert "interrupted; nothing was saved" in refusal(calibrate(), 130)
    assert not (tmp_path / "t.json").exists()


def test_help_has_examples() -> None:
    shown = CliRunner().invoke(cli, ["calibrate-temperature", "--help"])
    assert shown.exit_code == 0
    assert "renorm calibrate-temperature --data cifar10c" in shown.stdout


def test_the_network_of_these_tests_is_the_same_every_time() -> None:
    assert torch.equal(network().head.weight, network().head.weight)
