"""`renorm strategies`: the parts by kind, and each strategy or combination in full."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapters import COMBINATIONS, STRATEGIES
from app.cli import cli


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_strategies_lists_every_name_with_its_parameters() -> None:
    lines = run("strategies").stdout.splitlines()
    for name in (*COMBINATIONS, *STRATEGIES):
        assert [line for line in lines if line.split()[:1] == [name]]
    (default,) = [line for line in lines if line.startswith("auto *")]
    assert "shrinkage.horizon=200" in default
    titles = [lines.index(line) for line in lines if line.startswith(("Adapters: ", "Learners: ", "Correctors: "))]
    assert len(titles) == 3
    places = [next(i for i, line in enumerate(lines) if line.split()[:1] == [name]) for name in ("bn", "tent", "lame")]
    assert sorted(titles + places) == [titles[0], places[0], titles[1], places[1], titles[2], places[2]]
    assert lines[places[1]].split()[:2] == ["tent", "bn"]


def test_a_combination_is_explained_part_by_part() -> None:
    shown = run("strategies", "lame+unmix_tns").stdout
    assert shown.startswith("unmix_tns+lame: unmix_tns, then lame\n")
    assert shown.index("unmix_tns (adapter)") < shown.index("ICLR 2024") < shown.index("lame (corrector)")
    assert "CVPR 2022" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert [line for line in lines if line.startswith("lame.memory 16 integer >= 0 and <= 4096 ")]
    one = json.loads(run("strategies", "rotta", "--json").stdout)
    assert [part["name"] for part in one["parts"]] == ["robust_bn", "rotta"]
    assert "rotta.capacity" in one["parameters"]["properties"]


def test_a_combination_that_cannot_be_is_refused() -> None:
    refused = run("strategies", "tent+rotta")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "renorm: 'tent+rotta' cannot be combined: tent and rotta both learn the same affine"
    )


def test_a_default_of_several_parts_is_marked_where_it_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_STRATEGY", "lame+unmix_tns")
    assert " *" not in "".join(run("strategies").stdout.splitlines()[:-1])
    assert json.loads(run("strategies", "unmix_tns+lame", "--json").stdout)["default"] is True


def test_one_strategy_is_explained_with_ranges() -> None:
    shown = run("strategies", "unmix_tns").stdout
    assert "ICLR 2024" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "components 16 integer >= 1 and <= 256 Number of mixture components K." in lines
    assert [line for line in lines if line.startswith("reference_images 64 integer >= 1 or null")]
    assert [line for line in lines if line.startswith('start "centred" centred | random')]
    assert [line for line in lines if line.startswith("seed 0 integer >= 0 and <= 2147483647 ")]


def test_strategies_as_json_are_schemas() -> None:
    every: list[dict[str, Any]] = json.loads(run("strategies", "--json").stdout)
    assert [one["name"] for one in every] == [*COMBINATIONS, *STRATEGIES]
    one = json.loads(run("strategies", "adabn", "--json").stdout)
    assert one["parts"] == [other for other in every if other["name"] == "adabn"]
    assert one["parameters"]["properties"]["momentum"]["exclusiveMinimum"] == 0.0
