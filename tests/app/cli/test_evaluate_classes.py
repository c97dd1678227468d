"""`renorm evaluate` on folders of pictures: the error is that of the model, however folders are named."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from app.cli import cli
from tests.served import ROOT, served

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
IDS = ["n02691156", "n02958343", "n01503061", "n02121620", "n02430045"]
IDS += ["n02084071", "n01639765", "n02374451", "n04194289", "n04490091"]
INDEX = {str(i): [one, name] for i, (one, name) in enumerate(zip(IDS, NAMES, strict=True))}
RIGHT = 15.0
"""An error in percent that the bundled network stays below if it is scored against the right classes."""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


def write(root: Path, folders: Sequence[str | None], each: int = 4) -> Path:
    """Clean pictures of the sample, by class, in folders of these names; None leaves a class out."""
    pixels, labels = (np.load(ROOT / "benchmarks" / "sample" / f"{name}.npy") for name in ("clean", "labels"))
    for number, folder in enumerate(folders):
        for i in np.flatnonzero(labels == number)[:each] if folder else ():
            (root / "site" / str(folder)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i]).save(root / "site" / str(folder) / f"{i}.png")
    return root


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., Result]:
    def run(data: Path, *options: object, **other: Any) -> Result:
        fixed = {"--data": data, "--output": tmp_path / "out", "--protocol": "single", "--order": "iid", **other}
        given = [str(word) for pair in fixed.items() for word in pair]
        asked = ["evaluate", *given, "--batch-size", "20", "--strategies", "source", "--no-speed", *map(str, options)]
        return CliRunner().invoke(cli, asked)

    return run


def error(result: Result, out: Path) -> float:
    assert result.exit_code == 0, result.output + repr(result.exception)
    with (out / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return float(row["error"])


FOLDERS: dict[str, list[str | None]] = {
    "names": [*NAMES],
    "no-cats": [name if name != "cat" else None for name in NAMES],
    "capitals": [name.capitalize() if i % 2 else name for i, name in enumerate(NAMES)],
    "numbers": [str(i) for i in range(10)],
    "numbered-names": [f"{i:02}_{name}" for i, name in enumerate(NAMES)],
}


@pytest.mark.parametrize("folders", FOLDERS.values(), ids=FOLDERS.keys())
def test_errors_are_those_of_the_model(
    evaluate: Callable[..., Result], tmp_path: Path, folders: list[str | None]
) -> None:
    result = evaluate(write(tmp_path / "data", folders))
    assert error(result, tmp_path / "out") < RIGHT
    missing = [name for name, folder in zip(NAMES, folders, strict=True) if folder is None]
    told = f"no images of {len(missing)} of the model's 10 classes: {', '.join(missing)}"
    assert (told in result.stderr) == bool(missing)
    report = (tmp_path / "out" / "report.md").read_text()
    assert f"| classes | {10 - len(missing)} of the model's 10" in report


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["zebra", *NAMES[1:]], "'zebra' is not a class of the model"),
        (["cats" if name == "cat" else name for name in NAMES], "did you mean 'cat' by 'cats'?"),
        (["Dog" if name == "cat" else name for name in NAMES], "'Dog' and 'dog' are the same class of the model, 5"),
        ([str(i + 1) for i in range(10)], "numbered from 1 to 10"),
        (IDS, "are not classes of the model"),
    ],
    ids=["another", "plural", "twice", "from-one", "ids-that-the-labels-lack"],
)
def test_unknown_classes_are_refused_before_anything_runs(
    evaluate: Callable[..., Result], tmp_path: Path, folders: list[str | None], said: str
) -> None:
    result = evaluate(write(tmp_path / "data", folders, 1))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_skip_unknown_applies_in_every_process(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    data = write(tmp_path / "data", ["aardvark", *NAMES[1:]])
    result = evaluate(data, "--skip-unknown", "--processes", "2", "--batch-size", "18", "--order", "sorted")
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["images"] for row in rows} == {"36"}
    assert max(float(row["error"]) for row in rows) < RIGHT
    assert "skipped, because the model has no such class: 'aardvark'" in result.stderr


def test_results_of_another_matching_are_not_mixed_with_these(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    data = write(tmp_path / "data", [*NAMES], 1)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES[::-1]))
    assert evaluate(data).exit_code == 0
    result = evaluate(data, "--labels", tmp_path / "labels.txt")
    assert result.exit_code == 2
    assert "classes was" in result.stderr


def test_a_server_is_scored_by_its_own_classes(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "class_index.json").write_text(json.dumps(INDEX))
    data = write(tmp_path / "data", [*IDS[:5], *(name.upper() for name in NAMES[5:])])
    with served("--labels", str(tmp_path / "class_index.json")) as server:
        result = evaluate(data, "--url", server.url)
        assert error(result, tmp_path / "out") < RIGHT
        other = evaluate(write(tmp_path / "other", ["zebra", *NAMES[1:]], 1), "--url", server.url)
    assert other.exit_code == 2
    assert "'zebra' is not a class of the model" in other.stderr


def test_labels_in_a_configuration_of_hugging_face(evaluate: Callable[..., Result], tmp_path: Path) -> None:
    named = {str(i): name.replace("air", "aero") for i, name in enumerate(NAMES)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(sorted(named.items(), reverse=True))}))
    data = write(tmp_path / "data", ["Aeroplane", *NAMES[1:]])
    result = evaluate(data, "--labels", tmp_path / "config.json")
    assert error(result, tmp_path / "out") < RIGHT
    assert "1 of 10 folders matched in another spelling: Aeroplane is aeroplane" in result.stderr
