"""The plugin page to the letter: its blocks as a package, installed, listed, and combined with built-in parts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.checks import check_adapter, check_corrector, check_learner
from tests.end_to_end.test_command import images, png
from tests.served import RENORM, served
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "plugin.md"
PARTS = {"halfway": "adapter", "steady": "corrector", "balanced": "learner"}
FOG = [("files", ("a.png", png(one))) for one in images("fog")[:4]]


def block(name: str) -> str:
    """The block of the page that defines the class of that part."""
    (found,) = [one for one in blocks(PAGE, "python") if f"class {name.capitalize()}" in one]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the page's package is installed."""
    home, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (home / "your_package").mkdir()
    (home / "your_package" / "__init__.py").touch()
    for name in PARTS:
        (home / "your_package" / f"{name}.py").write_text(block(name))
    (project,) = blocks(PAGE, "toml")
    (home / "pyproject.toml").write_text(project)
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(target), str(home)]
    # Without the constraints that `make` sets: they are named from the repository's folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def renorm(site: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([RENORM, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def http(site: Path) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        with served() as server, httpx.Client(base_url=server.url, timeout=60) as client:
            yield client


def predict(http: httpx.Client, stream: str, strategy: str, **params: Any) -> list[float]:
    data = {"stream": stream, "strategy": strategy, "params": json_of(params)}
    answer = http.post("/v1/predict", files=FOG, data=data)
    assert answer.status_code == 200, answer.text
    assert answer.json()["strategy"] == strategy
    return [one["probability"] for one in answer.json()["predictions"]]


def json_of(params: dict[str, Any]) -> str:
    return httpx.Request("POST", "http://x", json=params).content.decode()


def test_the_parts_of_the_page_pass_the_checks_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    scope: dict[str, Any] = {}
    for name in PARTS:
        # In a module of its own: dataclasses look their annotations up there.
        (tmp_path / f"page_{name}.py").write_text(block(name))
        scope[name.capitalize()] = getattr(__import__(f"page_{name}"), name.capitalize())
    (checks,) = [one for one in blocks(PAGE, "python") if "check_learner(" in one]
    named = re.findall(r"^(check_\w+)\(", checks, re.MULTILINE)
    assert named == [one.__name__ for one in (check_adapter, check_corrector, check_learner)]
    exec(checks, scope)  # noqa: S102


def test_the_commands_know_what_is_installed(site: Path) -> None:
    lines = renorm(site, "strategies").splitlines()
    titles = {"adapter": "Adapters:", "learner": "Learners:", "corrector": "Correctors:"}
    places = {kind: next(i for i, line in enumerate(lines) if line.startswith(t)) for kind, t in titles.items()}
    for name, kind in PARTS.items():
        (row,) = [i for i, line in enumerate(lines) if line.split()[:1] == [name]]
        assert max((place, known) for known, place in places.items() if place < row)[1] == kind


def test_the_server_lists_them_and_what_they_cost(http: httpx.Client) -> None:
    listed = {one["name"]: one for one in http.get("/v1/strategies").json()}
    assert {name: listed[name]["kind"] for name in PARTS} == PARTS
    assert (listed["steady"]["adapter"], listed["balanced"]["adapter"]) == ("source", "adabn")
    assert listed["steady"]["parameters"]["properties"]["keep"]["maximum"] == 0.99
    found = http.get("/v1/strategies/steady+balanced").json()
    assert (found["name"], len(found["parts"])) == ("balanced+steady", 3)
    assert {"adabn.momentum", "balanced.lr", "steady.keep"} <= set(found["parameters"]["properties"])
    assert "Average each answer with the previous ones" in found["parts"][2]["documentation"]
    costs = http.get("/v1/model").json()["state_bytes"]
    assert costs["steady"] - costs["source"] == 4 * 10
    assert costs["balanced"] == costs["adabn"] + costs["tent"] - costs["bn"]


def test_an_adapter_with_a_built_in_corrector(http: httpx.Client) -> None:
    assert predict(http, "a", "halfway+cofa", share=0.0) == pytest.approx(predict(http, "b", "cofa"), abs=1e-5)
    assert predict(http, "c", "halfway+cofa") != pytest.approx(predict(http, "b", "cofa"), abs=1e-3)


def test_a_corrector_with_a_built_in_adapter(http: httpx.Client) -> None:
    plain = [predict(http, "d", "unmix_tns") for _ in range(2)]
    same = [predict(http, "e", "unmix_tns+steady", keep=0.0) for _ in range(2)]
    steady = [predict(http, "f", "unmix_tns+steady") for _ in range(2)]
    assert same[0] == pytest.approx(plain[0], abs=1e-5)
    assert same[1] == pytest.approx(plain[1], abs=1e-5)
    # The first answer is half of what a stream knows before it has seen anything, which is 1/10.
    assert steady[0][0] == pytest.approx(0.5 * plain[0][0] + 0.05, abs=1e-5)
    assert steady[1] != pytest.approx(plain[1], abs=1e-3)


def test_a_learner_with_built_in_parts(http: httpx.Client) -> None:
    asked = {"balanced.lr": 0.05}
    learned = [predict(http, "g", "balanced+cofa", **asked) for _ in range(3)]
    still = [predict(http, "h", "adabn+cofa") for _ in range(3)]
    assert learned[0] == pytest.approx(still[0], abs=1e-5)
    assert learned[2] != pytest.approx(still[2], abs=1e-3)
    assert http.post("/v1/admin/reset", json={"stream": "g"}).json()["forgotten"] == 1
    assert [predict(http, "g", "balanced+cofa", **asked) for _ in range(3)] == learned


def test_wrong_parameters_of_a_plugin_are_refused_as_clearly(http: httpx.Client) -> None:
    data = {"strategy": "steady", "params": '{"keep": 1}'}
    answer = http.post("/v1/predict", files=FOG, data=data)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "steady: keep must be a number (at least 0 and at most 0.99), not 1" in answer.json()["error"]
    answer = http.post("/v1/predict", files=FOG, data={"strategy": "balanced+tent"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_strategy")
