"""Tests have the same names whenever and wherever they are collected.

`make test` starts its two workers with different hashes, and `other_day` lets the second collect as on another day;
then pytest-xdist compares what they found. A second collection of all of them would take twenty seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKERS = ["-n", "2", "--dist", "loadfile"]
CHANGING = {
    "time": "int(__import__('time').time()) // 1000",
    "hash": "hash('name')",
}


def test_the_workers_of_make_test_differ_in_their_hashes() -> None:
    (recipe,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "-m pytest" in line]
    assert "PYTHONHASHSEED=random" in recipe
    assert " ".join(WORKERS) in recipe


def test_names_are_unique(request: pytest.FixtureRequest) -> None:
    names = [item.nodeid for item in request.session.items]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", [*CHANGING, "nothing"])
def test_names_that_change_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "other_day.py").read_text())
    value = CHANGING.get(kind, "0")
    (tmp_path / "test_one.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('value', [{value}])\ndef test_one(value): pass\n"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist.plugin", *WORKERS, "-p", "no:cacheprovider", str(tmp_path)],
        check=False,
        cwd=tmp_path,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "random"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (kind == "nothing"), done.stdout
    assert ("Different tests were collected" in done.stdout) == (kind != "nothing")
