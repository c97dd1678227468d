"""The Makefile, with a Python that only writes down what it is asked: when something is installed, and what."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")

FAKE = """\
#!/bin/sh
case "$1 $2" in
  "-c import"*) exit "$TOO_OLD";;
  "-m venv") mkdir -p "$3/bin"; for tool in python renorm ruff mypy; do cp "$0" "$3/bin/$tool"; done; exit;;
  "-m pip") [ "$3" = --version ] && exit;;
esac
echo "$(basename "$0") $*" >> log
"""


class Clone:
    """A directory with the Makefile, its inputs, and a Python that writes its arguments to a log."""

    def __init__(self, at: Path) -> None:
        self.at, self.log, self.too_old = at, at / "log", "0"
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, at)
        (at / "python").write_text(FAKE)
        (at / "python").chmod(0o755)
        self.tools = at / "tools"
        self.tools.mkdir()
        for tool in ("sh", "awk", "basename", "cat", "cp", "find", "mkdir", "rm", "touch"):
            (self.tools / tool).symlink_to(str(shutil.which(tool)))
        self.script("chromium")

    def script(self, name: str, text: str = "") -> None:
        """A tool that there is, beside the few that every machine has."""
        (self.tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.tools / name).chmod(0o755)

    def make(self, *arguments: str) -> list[str]:
        """Run make; what the tools were asked to do."""
        self.log.write_text("")
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().splitlines()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        known = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MAKE", "MFLAGS", "TORCH_INDEX", "ARGS", "DATA"))
        }
        environment = {**known, "TOO_OLD": self.too_old, "PATH": str(self.tools)}
        command = [str(MAKE), "PYTHON=./python", *arguments]
        return subprocess.run(command, cwd=self.at, env=environment, capture_output=True, text=True, check=False)

    def change(self, name: str) -> None:
        """Make a file newer than all that is there: everything else is set back."""
        for path in self.at.rglob("*"):
            os.utime(path, (1e9, 1e9))
        os.utime(self.at / name, (1e9 + 1, 1e9 + 1))


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def installs(log: list[str]) -> list[str]:
    return [line.partition("install ")[2] for line in log if " install " in line]


def test_serve_installs_the_base_once(clone: Clone) -> None:
    assert clone.make("serve") == ["python -m pip install --editable .", "renorm serve"]
    assert clone.make("serve", "ARGS=--port 9000") == ["renorm serve --port 9000"]


def test_test_installs_what_it_needs_and_runs_every_check(clone: Clone) -> None:
    checks = [
        "ruff check",
        "ruff format --check",
        "mypy",
        "python -m pytest -n 2 --dist loadfile --no-loadscope-reorder",
    ]
    log = [line.strip() for line in clone.make("test")]
    assert log == ["python -m pip install --editable .[dev]", *checks]
    assert [line.strip() for line in clone.make("test")] == checks


def test_serve_and_test_in_turn_install_nothing_twice(clone: Clone) -> None:
    assert installs(clone.make("serve")) == ["--editable ."]
    assert installs(clone.make("test")) == ["--editable .[dev]"]
    for target in ("serve", "test", "serve"):
        assert installs(clone.make(target)) == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_is_installed(clone: Clone, name: str) -> None:
    clone.make("test")
    clone.change(name)
    assert installs(clone.make("serve")) == ["--editable ."]
    assert installs(clone.make("serve")) == []
    assert installs(clone.make("test")) == ["--editable .[dev]"]


def test_another_index_brings_another_torch_and_is_remembered(clone: Clone) -> None:
    clone.make("serve")
    forced = "--no-deps --force-reinstall --index-url file:///cpu"
    first = installs(clone.make("serve", "TORCH_INDEX_URL=file:///cpu"))
    assert first == [f"{forced} torch", "--extra-index-url file:///cpu --editable ."]
    assert installs(clone.make("serve", "TORCH_INDEX_URL=file:///cpu")) == []
    assert installs(clone.make("serve")) == []
    second = installs(clone.make("test"))
    assert second == [f"{forced} torchvision", "--extra-index-url file:///cpu --editable .[dev]"]
    third = installs(clone.make("test", "TORCH_INDEX_URL=file:///cuda"))
    assert [line.split()[-1] for line in third] == ["torch", "torchvision", ".[dev]"]
    assert "file:///cpu" not in " ".join(third)


def test_an_install_that_failed_is_done_again(clone: Clone) -> None:
    (clone.at / "python").write_text(FAKE.replace("echo", '[ "$3" = install ] && exit 1; echo'))
    assert clone.run("serve").returncode != 0
    assert not (clone.at / ".venv" / ".base").exists()
    (clone.at / ".venv" / "bin" / "python").write_text(FAKE)
    assert installs(clone.make("serve")) == ["--editable ."]


def test_an_old_python_is_refused_by_name(clone: Clone) -> None:
    clone.too_old = "1"
    refused = clone.run("serve")
    assert refused.returncode != 0
    assert "needs Python 3.11" in refused.stdout
    assert not (clone.at / ".venv").exists()


def test_an_environment_that_works_is_kept(clone: Clone) -> None:
    (clone.at / ".venv" / "bin").mkdir(parents=True)
    for tool in ("python", "renorm"):
        shutil.copy(clone.at / "python", clone.at / ".venv" / "bin" / tool)
    (clone.at / ".venv" / "mine").write_text("kept")
    assert installs(clone.make("serve")) == ["--editable ."]
    assert not (clone.at / ".venv" / "bin" / "ruff").exists()


def test_train_asks_for_data_and_errors_has_a_sample(clone: Clone) -> None:
    clone.make("lint")
    assert "make train DATA=" in clone.run("train").stdout
    (errors,) = clone.make("errors", "ARGS=--limit 50")
    assert errors.startswith("renorm evaluate --data benchmarks/sample --strategies source,auto ")
    assert errors.endswith(" --output results/errors --limit 50")
    (elsewhere,) = clone.make("errors", "DATA=my data")
    assert elsewhere.startswith("renorm evaluate --data my data --strategies ")


def test_errors_go_on_where_they_were_stopped(clone: Clone) -> None:
    (clone.at / "results" / "errors").mkdir(parents=True)
    errors = clone.make("errors")[-1]
    assert (clone.at / "results" / "errors").is_dir()
    assert " --anew " in errors, "with other data or settings it begins anew instead of ending in a refusal"


def test_results_asks_for_data(clone: Clone) -> None:
    clone.make("lint")
    assert "make results DATA=" in clone.run("results").stdout
    assert clone.make("results", "DATA=c10c", "ARGS=--no-run") == [
        "python -m benchmarks.results --data c10c --out results --no-run"
    ]


def test_bench_measures_speed(clone: Clone) -> None:
    clone.make("lint")
    assert clone.make("bench", "ARGS=--quick") == ["python -m benchmarks.speed --quick"]


def test_help_lists_every_target(clone: Clone) -> None:
    listed = re.findall(r"^  make (\w+) ", clone.run().stdout, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == [name for name in phony.split() if name != "FORCE"]


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("\nmake test")


def test_load_measures_the_server(clone: Clone) -> None:
    clone.make("lint")
    assert clone.make("load", "ARGS=--quick") == ["python -m benchmarks.load --quick"]


def test_clients_tries_other_projects_clients(clone: Clone) -> None:
    clone.make("lint")
    assert clone.make("clients", "ARGS=--only kserve") == ["python -m benchmarks.clients --only kserve"]


APT = 'echo "apt-get $*" >> log'
INSTALLED = ["apt-get update -qq", "apt-get install -qq --no-install-recommends chromium"]


@pytest.mark.parametrize(
    ("tools", "asked", "is_told"),
    [
        ({"chromium": "", "id": "echo 0", "apt-get": APT}, [], False),
        ({"google-chrome": "", "id": "echo 0", "apt-get": APT}, [], False),
        ({"id": "echo 0", "apt-get": APT}, INSTALLED, False),
        ({"id": "echo 0", "apt-get": f"{APT}; exit 100"}, INSTALLED[:1], True),
        ({"id": "echo 1000", "apt-get": APT}, [], True),
        ({"id": "echo 0"}, [], True),
    ],
    ids=["there", "another", "installed", "no network", "not root", "no apt"],
)
def test_a_browser_is_installed_where_it_can_be(
    tools: dict[str, str], asked: list[str], is_told: bool, clone: Clone
) -> None:
    (clone.tools / "chromium").unlink()
    for name, text in tools.items():
        clone.script(name, text)
    assert clone.make("browser") == asked
    assert ("apt install chromium" in clone.run("browser").stdout) is is_told
