"""A user's code by file: from anywhere, with its neighbours, and whatever its packages are called."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.models
from app.errors import ModelError
from app.models import load
from app.models.hosted import Hosted
from app.models.own_code import import_file
from app.settings import Settings

BLOCKS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.bn(x).mean((2, 3)))
"""


def write(folder: Path, files: dict[str, str]) -> None:
    """Files by their path without the suffix."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def package(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text("")


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield
    for name in {name for name in sys.modules if name.startswith("renorm_python_")} - before:
        del sys.modules[name]


def hosted(target: str | Path, factory: str = "build") -> Hosted:
    return load(Settings(model=f"python:{target}:{factory}", size=8))


def refused(target: str | Path, factory: str = "build") -> ModelError:
    with pytest.raises(ModelError) as caught:
        hosted(target, factory)
    return caught.value


IMPORTS = {
    "beside": ("nets", "from blocks import Net as build", "blocks"),
    "relative": ("shop/nets", "from .blocks import Net as build", "shop/blocks"),
    "absolute": ("shop/nets", "from shop.blocks import Net as build", "shop/blocks"),
    "module": ("shop/nets", "import shop.blocks\nbuild = shop.blocks.Net", "shop/blocks"),
    "renamed": ("shop/nets", "import shop.blocks as b\nbuild = b.Net", "shop/blocks"),
    "from a package": ("shop/nets", "from shop import blocks\nbuild = blocks.Net", "shop/blocks"),
    "parent": ("shop/deep/nets", "from ..blocks import Net as build", "shop/blocks"),
    "late": ("shop/nets", "def build():\n    from shop.blocks import Net\n    return Net()", "shop/blocks"),
    "inside": ("shop/__init__", "from .blocks import Net as build", "shop/blocks"),
    "folder without init": ("nets", "from parts.blocks import Net as build", "parts/blocks"),
}


@pytest.mark.parametrize("top", ["shop", "app", "adapters", "tests", "torch_nets"])
@pytest.mark.parametrize("form", IMPORTS)
def test_neighbours_are_imported_whatever_the_package_is_called(tmp_path: Path, form: str, top: str) -> None:
    nets, text, blocks = (part.replace("shop", top) for part in IMPORTS[form])
    if top in nets:
        package(tmp_path, top, f"{top}/deep")
    write(tmp_path, {nets: text, blocks: BLOCKS})
    found = hosted(tmp_path / (top if form == "inside" else f"{nets}.py"))
    assert found.architecture == "Net"
    assert found.source.startswith("python:")
    assert found.name == ".".join([*(part for part in nets.split("/") if part != "__init__"), "build"])
    assert sys.modules["app.models"] is app.models


def test_a_file_of_the_current_directory_sees_the_packages_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "app", "app/models")
    write(tmp_path, {"app/models/blocks": BLOCKS, "scripts/nets": "from app.models.blocks import Net as build"})
    monkeypatch.chdir(tmp_path)
    assert hosted("scripts/nets.py").architecture == "Net"
    assert hosted("./scripts/nets.py").name == "nets.build"


def test_ours_and_the_libraries_are_still_there_for_it(tmp_path: Path) -> None:
    text = """
from adapters import AdaptiveModel
import torch.nn as nn
import json, app
from blocks import Net

def build():
    assert app.__version__ and AdaptiveModel
    return Net()
"""
    write(tmp_path, {"nets": text, "blocks": BLOCKS, "json": "raise OSError"})
    assert hosted(tmp_path / "nets.py").architecture == "Net"


def test_two_files_of_one_name_are_two_modules_and_objects_can_be_pickled(tmp_path: Path) -> None:
    write(tmp_path, {"a/nets": "class A: pass\nclass_ = A", "b/nets": "class B: pass\nclass_ = B"})
    first, second = (import_file(tmp_path / name / "nets.py") for name in ("a", "b"))
    assert (first.class_.__name__, second.class_.__name__) == ("A", "B")
    assert type(pickle.loads(pickle.dumps(second.B()))) is second.B  # noqa: S301


def test_problems_of_a_python_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"nets": "build = 1", "broken": "import surely_not_there", "app/nets": "", "wrong": "def f(:"})
    (tmp_path / "weights.pt").write_bytes(b"")
    assert "does not exist" in refused("absent.py").message
    assert "is a folder" in refused("./app").message
    assert "nets.py" in refused("./app").hint
    assert "not a Python file" in refused("./weights.pt").message
    assert "surely_not_there" in refused("broken.py").message
    assert "SyntaxError" in refused("wrong.py").message
    assert "not a factory but of type int" in refused("nets.py").message
    assert "python:FILE.py:FACTORY" in refused("nets.py", "f()").hint


@pytest.mark.parametrize("name", ["app.nets", "app.models", "adapters.nets"])
def test_a_clash_with_our_packages_is_explained(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = f"{name.replace('.', '/')}.py"
    write(tmp_path, {name.replace(".", "/"): BLOCKS})
    error = refused(name, "Net")
    assert f"'{name.partition('.')[0]}' is a package of Renorm itself" in error.hint
    assert f"python:{file}:FACTORY" in error.hint
    assert hosted(file, "Net").architecture == "Net"


def test_a_clash_inside_of_the_users_code_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"clashing/nets": "from app.blocks import Net as build"})
    assert "'app' is a package of Renorm itself" in refused("clashing.nets").hint


def test_the_command_hosts_a_file_from_anywhere(tmp_path: Path) -> None:
    package(tmp_path, "user/app")
    write(tmp_path, {"user/app/nets": "from app.blocks import Net as build", "user/app/blocks": BLOCKS})
    model = "python:../user/app/nets.py:build"
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "describe", "--size", "8", "--model", model],
        cwd=tmp_path / "elsewhere",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "app.nets.build" in run.stdout
