"""What is published and pinned: the wheel holds what the packages need, every requirement has one exact version."""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import app
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
    assert names == {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in left_out}
    assert {"adapters/py.typed", "app/py.typed"} <= names


def test_the_wheel_carries_license_and_command(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel)
    about = f"renorm-{app.__version__}.dist-info"
    assert held.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "renorm = app.cli:main" in held.read(f"{about}/entry_points.txt").decode()
    assert callable(main)


def test_one_version_everywhere() -> None:
    assert PROJECT["version"] == app.__version__
    assert f"## [{app.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("requirement", required(), ids=lambda requirement: requirement.name)
def test_every_requirement_has_a_pin_that_it_admits(requirement: Requirement) -> None:
    pin = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)


def test_what_the_requirements_require_is_pinned_too() -> None:
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
