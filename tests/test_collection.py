"""Tests have the same names whenever and wherever they are collected: workers of pytest-xdist compare them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LATER = """\
import sys, time
now = time.time
time.time = lambda: now() + 86_461.5
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
"""Collects as on another day."""


def test_names_depend_on_no_time_hash_or_process(request: pytest.FixtureRequest) -> None:
    here = [item.nodeid for item in request.session.items]
    files = sorted({name.partition("::")[0] for name in here})
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    # Without what xdist tells its workers: the other collection is none of theirs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    collected = subprocess.run(
        [sys.executable, "-c", LATER, *files],
        check=False,
        cwd=ROOT,
        env={**environment, "PYTHONHASHSEED": seed, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert collected.returncode == 0, collected.stdout[-2000:] + collected.stderr[-2000:]
    elsewhere = set(collected.stdout.splitlines())
    changing = [name for name in here if name not in elsewhere]
    assert not changing, f"{len(changing)} names change, give them ids: {changing[:5]}"
    assert len(set(here)) == len(here)
