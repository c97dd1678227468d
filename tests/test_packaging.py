"""What is published and pinned: the wheel holds what the packages need, every requirement has one exact version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import adapters
import app
import renorm
from app import client
from app.cli import main

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    split = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in split}


def required() -> list[Requirement]:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    listed = [
        *PROJECT["dependencies"],
        *build,
        *(one for some in PROJECT["optional-dependencies"].values() for one in some),
    ]
    return [one for one in map(Requirement, listed) if one.name != PROJECT["name"]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(built)


def test_the_wheel_holds_both_packages_whole_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    left_out = {".pyc", ".checkpoint", ".partial"}
    files = [path for package in ("adapters", "app") for path in (ROOT / package).rglob("*") if path.is_file()]
    kept = {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in left_out}
    assert names == {path.removeprefix("app/public/") for path in kept}
    assert {"adapters/py.typed", "app/py.typed", "renorm/py.typed", "renorm/__init__.py"} <= names


def test_the_wheel_carries_license_and_command(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel)
    about = f"renorm-{app.__version__}.dist-info"
    assert held.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "renorm = renorm.__main__:main" in held.read(f"{about}/entry_points.txt").decode()
    assert callable(main)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Where Python finds the packages: of the wheel, and of an editable install."""
    unpacked = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(unpacked)
    build: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    return {"wheel": [str(unpacked)], "editable": [str(ROOT / folder) for folder in build["dev-mode-dirs"]]}


def outcome(folder: Path, paths: list[str], *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *arguments]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


NAMES = """
import renorm, sys
from renorm import Client, AsyncClient, Refused
assert "torch" not in sys.modules and renorm.client.Client is Client
sys.modules.update(hidden)
from renorm import AdaptiveModel, STRATEGIES, Request, strategy
assert not set(dir(renorm)) - {name for name in dir(renorm) if hasattr(renorm, name)}
assert {*renorm.adapters.__all__} <= {*dir(renorm)}
assert renorm.adapters.AdaptiveModel is AdaptiveModel
for wrong in ("nothing", "_nothing"):
    try: getattr(renorm, wrong)
    except AttributeError: pass
    else: raise SystemExit(wrong)
from torch import nn; import torch
model = AdaptiveModel(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)), strategy="unmix_tns")
model(torch.ones(2, 3, 2, 2))
print(renorm.__version__, renorm.ROOT)
"""

FORKED = """
import importlib, json, os, sys
there = set(sys.modules)
import torch, torch.export, torch.func
hidden = {name: sys.modules[name] for name in set(sys.modules) - there}
for folder, paths, program in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        for name in hidden:
            del sys.modules[name]
        os.chdir(folder)
        sys.path[:1] = ["", *paths]
        importlib.invalidate_caches()
        exec(program)
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, (folder, paths)
"""
"""Runs programs in processes that have torch, which takes seconds to import, but hide it until they want it."""

THEIRS: list[list[str]] = [[], ["app"], ["adapters"], ["app", "adapters"]]


@pytest.fixture(scope="module")
def said(installed: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What a program prints that uses our names, for each form of installation and other packages beside it."""
    cases: dict[tuple[str, str], tuple[str, list[str], str]] = {}
    for form, paths in installed.items():
        for theirs in THEIRS:
            folder = tmp_path_factory.mktemp("theirs")
            for package in theirs:
                (folder / package).mkdir()
                (folder / package / "__init__.py").write_text("theirs = True")
            check = "".join(f"import {package}; assert {package}.theirs\n" for package in theirs)
            cases[form, "+".join(theirs)] = (str(folder), paths, NAMES + check)
    lines = outcome(tmp_path_factory.mktemp("forked"), [], "-c", FORKED, json.dumps(list(cases.values()))).splitlines()
    return dict(zip(cases, lines, strict=True))


@pytest.mark.parametrize("theirs", THEIRS, ids="+".join)
@pytest.mark.parametrize("form", ["wheel", "editable"])
def test_the_public_names_are_there_whatever_other_packages_are_called(
    said: dict[tuple[str, str], str], installed: dict[str, list[str]], form: str, theirs: list[str]
) -> None:
    assert said[form, "+".join(theirs)].split() == [app.__version__, installed[form][0]]


@pytest.mark.parametrize("form", ["wheel", "editable"])
def test_the_command_runs_beside_a_package_app(installed: dict[str, list[str]], form: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("theirs = True")
    command = "from renorm.__main__ import main; import sys; sys.argv = ['renorm', '--version']; main()"
    for arguments in (["-m", "renorm", "--version"], ["-c", command]):
        assert app.__version__ in outcome(tmp_path, [str(tmp_path), *installed[form]], *arguments)


def test_the_public_names_are_those_of_the_packages() -> None:
    assert {*renorm._CLIENT} == {*client.__all__} - {*adapters.__all__}


def test_one_version_everywhere() -> None:
    assert PROJECT["version"] == app.__version__
    assert f"## [{app.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("requirement", required(), ids=lambda requirement: requirement.name)
def test_every_requirement_has_a_pin_that_it_admits(requirement: Requirement) -> None:
    pin = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)


def test_requirements_of_requirements_are_pinned() -> None:
    known = pins()
    waiting, seen = [canonicalize_name(one.name) for one in required()], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        assert name in known
        needs = [Requirement(text) for text in requires(name) or []]
        # torch pins the libraries of its CUDA builds itself, and each index has others.
        waiting += [
            canonicalize_name(one.name)
            for one in needs
            if (one.marker is None or one.marker.evaluate({"extra": ""}))
            and not re.match("nvidia|cuda|triton", one.name)
        ]


def test_torch_and_torchvision_are_a_pair() -> None:
    torch, vision = (pins()[name].split(".") for name in ("torch", "torchvision"))
    assert int(vision[1]) == int(torch[1]) + 15


INSTALLS = re.compile(r"pip install (?:-e |--editable )?(?P<what>[\"']?(?:\.|renorm)\[[\w,]+\][\"']?)")


def test_one_form_of_installing_extras_everywhere() -> None:
    """``pip install 'renorm[timm]'``: it adds to what is installed, be it a wheel or this repository."""
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "docker").iterdir()]
    texts += [path for top in ("app", "adapters") for path in (ROOT / top).rglob("*.py")]
    hints = [(path.name, hint["what"]) for path in texts for hint in INSTALLS.finditer(path.read_text())]
    assert len(hints) >= 8
    extras = {f"'renorm[{extra}]'" for extra in PROJECT["optional-dependencies"]}
    assert {hint for _, hint in hints} <= extras, hints
