"""The README's sentences on what each strategy is for, and on what it cannot do to a stream, each measured.

With the bundled network on images of CIFAR-10, clean and under three corruptions. A sentence that changes has to
change here too, beside the figures that bear it out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from adapters import strategy
from adapters.checks import CHECKS
from adapters.composite import Strategy
from app.evaluation.specs import parse_specs
from tests.sample_streams import (
    CORRUPTIONS,
    ERRORS,
    FLAT,
    MIXED,
    SORTED,
    Stream,
    adaptive,
    frozen,
    hosted,
    images,
    send,
)

ROOT = Path(__file__).parent.parent
ONE_AFTER_ANOTHER = (*CORRUPTIONS, "clean")


class Case(NamedTuple):
    """The error on ``of`` must lie from ``least`` to ``most`` points above that of another strategy."""

    of: str
    order: str
    sizes: tuple[int, ...]
    most: float = 100
    least: float = -100
    than: str = "source"
    shown: tuple[str, ...] = ()

    def stream(self, name: str) -> Stream:
        return Stream(name, self.shown or (self.of,), self.order, self.sizes)

    def streams(self, name: str) -> set[Stream]:
        return {self.stream(name)} | ({self.stream(self.than)} if self.than != "source" else set())

    def points(self, name: str) -> float:
        base = frozen(self.of, self.order) if self.than == "source" else ERRORS[self.stream(self.than)][self.of]
        return ERRORS[self.stream(name)][self.of] - base


ORDERS = (MIXED, SORTED)
LARGE, SMALL, SINGLE, CHANGING = (50,), (10,), (1,), (1, 50, 10)
SIZES = (LARGE, SMALL, SINGLE)

USES: dict[str, tuple[str, list[Case]]] = {
    "source": (
        "the baseline: `model.eval()`",
        [Case("fog", MIXED, LARGE, most=0, least=0)],
    ),
    "bn": (
        "large requests of shuffled images; keeps no state",
        [
            Case("fog", MIXED, LARGE, most=-10),
            Case("clean", MIXED, LARGE, most=4),
            Case("clean", SORTED, LARGE, least=20),
        ],
    ),
    "alpha_bn": (
        "large requests of shuffled images, and tolerates small ones; keeps no state",
        [
            Case("fog", MIXED, LARGE, most=-10),
            Case("clean", MIXED, SINGLE, most=4),
            Case("fog", MIXED, SINGLE, most=-3),
            Case("clean", SORTED, LARGE, least=15),
        ],
    ),
    "adabn": (
        "shuffled images in requests of any size; loses accuracy on correlated streams",
        [
            *(Case("fog", MIXED, sizes, most=-10) for sizes in SIZES),
            Case("clean", MIXED, SINGLE, most=3),
            Case("clean", SORTED, LARGE, least=2),
        ],
    ),
    "robust_bn": (
        "long streams of large requests, shuffled or correlated; never single images of a correlated stream",
        [
            Case("fog", SORTED, LARGE, most=-8),
            Case("fog", MIXED, LARGE, most=-8),
            Case("clean", SORTED, SINGLE, least=30),
        ],
    ),
    "unmix_tns": (
        "cautious: gains little, but costs at most 4 points on clean images whatever the stream held before, and "
        "nothing under corruptions, for every request size and order",
        [
            *(Case("clean", MIXED, sizes, most=4) for sizes in SIZES),
            *(Case("clean", SORTED, sizes, most=4) for sizes in (LARGE, SINGLE)),
            *(
                Case(of, order, sizes, most=4 if of == "clean" else 0, shown=ONE_AFTER_ANOTHER)
                for of in ONE_AFTER_ANOTHER
                for order, sizes in ((MIXED, SINGLE), (SORTED, LARGE))
            ),
            *(Case("clean", MIXED, SMALL, most=4, shown=(flat, "clean")) for flat in FLAT),
            Case("contrast", MIXED, LARGE, least=20, than="adabn"),
        ],
    ),
    "iabn": (
        "small requests, mixed corruptions, correlated streams with short runs of one class",
        [
            Case("fog", MIXED, SINGLE, most=-10),
            Case("mixed", MIXED, SINGLE, most=-10),
            Case("fog", SORTED, SINGLE, most=-10),
        ],
    ),
    "tema": (
        "shuffled images in requests of changing size",
        [Case("fog", MIXED, CHANGING, most=-10), Case("clean", MIXED, CHANGING, most=4)],
    ),
    "james_stein": (
        "a fixed camera: clean images cost nothing however long one class is shown; severe shifts gain",
        [
            *(Case("clean", order, sizes, most=1, least=-1) for order in ORDERS for sizes in SIZES),
            *(Case("contrast", order, SINGLE, most=-20) for order in ORDERS),
        ],
    ),
    "tent": (
        "long streams of large requests with many classes; never small requests",
        [Case("fog", MIXED, LARGE, most=-10), Case("clean", MIXED, SMALL, least=5)],
    ),
    "core": (
        "like `alpha_bn`, and learns from requests of 100 images or more: gains half a point at most",
        [
            *(Case("fog", order, (size,), most=0, least=0, than="alpha_bn") for order in ORDERS for size in (1, 4, 50)),
            *(Case("fog", order, (100,), most=1, than="alpha_bn", shown=("contrast", "fog")) for order in ORDERS),
        ],
    ),
    "rotta": (
        "very long streams only: it follows a shift over thousands of images",
        [Case("fog", MIXED, LARGE, most=0), Case("fog", MIXED, LARGE, least=5, than="adabn")],
    ),
    "temperature": (
        "calibrated confidences; it changes no prediction",
        [Case("fog", MIXED, SMALL, most=0, least=0)],
    ),
    "lame": (
        "video from a camera without a shift, where the network is mostly right already",
        [
            Case("clean", SORTED, LARGE, most=-2),
            Case("clean", SORTED, SINGLE, most=-1),
            Case("contrast", MIXED, LARGE, most=0.5),
        ],
    ),
    "lame:memory=0,when=always": (
        "LAME as published: large requests with few classes",
        [Case("clean", SORTED, LARGE, most=-1), Case("fog", MIXED, LARGE, least=20)],
    ),
    "cofa": (
        "like `lame`, without a memory of images",
        [Case("clean", SORTED, LARGE, most=-2), Case("clean", MIXED, LARGE, least=5)],
    ),
    "adabn+lame": (
        "**video**: correlated streams, runs of up to a few hundred images of a class, requests of any size",
        [
            *(Case("fog", SORTED, sizes, most=-15) for sizes in (LARGE, SINGLE)),
            *(Case("fog", SORTED, sizes, most=-4, than="adabn") for sizes in (LARGE, SINGLE)),
            Case("clean", SORTED, SINGLE, most=0),
        ],
    ),
    "iabn+lame": (
        "like `adabn+lame`, and better for single images",
        [
            Case("fog", SORTED, LARGE, most=-15),
            Case("contrast", SORTED, SINGLE, most=-5, than="adabn+lame"),
            Case("clean", SORTED, SINGLE, most=0),
        ],
    ),
    "james_stein+lame": (
        "a fixed camera that shows one class for long, or for a time that nobody knows",
        [
            *(Case("clean", SORTED, sizes, most=-1) for sizes in SIZES),
            *(Case("clean", MIXED, sizes, most=1) for sizes in SIZES),
            Case("fog", SORTED, SINGLE, most=-12),
        ],
    ),
    "shrinkage": (
        "streams of any order whose images should not be corrected by their neighbours: `auto` without `lame`",
        [
            *(Case("clean", order, sizes, most=1) for order in (SORTED, MIXED) for sizes in SIZES),
            Case("fog", MIXED, LARGE, most=-12),
        ],
    ),
    "auto": (
        "**the default**: streams of unknown order",
        [
            *(Case("clean", SORTED, sizes, most=-1) for sizes in SIZES),
            *(Case("clean", MIXED, sizes, most=1) for sizes in SIZES),
            Case("fog", SORTED, SINGLE, most=-12),
            Case("fog", MIXED, LARGE, most=-12),
        ],
    ),
    "adabn+cofa": (
        "video with short runs of one class; not for shuffled images",
        [Case("fog", SORTED, LARGE, most=-4, than="adabn"), Case("clean", MIXED, LARGE, least=5)],
    ),
    "unmix_tns+tent:lr=1e-05": (
        "very long streams, with the learning rate of the UnMix-TNS paper",
        [Case("fog", MIXED, LARGE, most=1, least=-1, than="unmix_tns")],
    ),
}
"""For each strategy its words in README and docs/results.md, and the figures without which they would be untrue."""

RULES = {
    "One request is one step.": ["one_request_one_step", "isolation"],
    "Committed once, or not at all.": ["commit"],
    "New equals reset.": ["reset"],
    "Single images work": ["edge_inputs"],
    "`source` is `model.eval()`.": ["engine"],
}
"""What the README says can be relied on, and the checks that run for every strategy and say so."""


def test_the_readme_claims_what_is_measured_here() -> None:
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs" / "results.md").read_text()
    choices = _uses(readme.partition("<!-- strategies:")[2].partition("<!-- /strategies -->")[0])
    assert _uses(page.partition("## Strategies and their uses\n")[2].partition("\n## ")[0]) == {
        name: use for name, (use, _) in USES.items()
    }
    assert len(choices) <= 8
    assert choices.items() <= {name: use for name, (use, _) in USES.items()}.items()


def _uses(table: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", table, re.MULTILINE))


@pytest.mark.parametrize("name", USES)
def test_a_strategy_does_what_the_readme_uses_it_for(name: str) -> None:
    cases = USES[name][1]
    send({stream for case in cases for stream in case.streams(name)})
    found = {case: case.points(name) for case in cases}
    assert {case: points for case, points in found.items() if not case.least <= points <= case.most} == {}


def test_guarantees_of_the_readme_are_checked() -> None:
    section = (ROOT / "README.md").read_text().partition("## What you can rely on\n")[2].partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE) == list(RULES)
    assert {check for checks in RULES.values() for check in checks} <= CHECKS.keys()


@pytest.mark.parametrize("of", ONE_AFTER_ANOTHER)
def test_source_is_the_network_in_eval(of: str) -> None:
    x, network = images(of)[:20], hosted().network
    assert not network.training
    with torch.no_grad():
        assert torch.allclose(adaptive("source")(x), network(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["bn", "alpha_bn", "lame:memory=0,when=always"])
def test_no_memory_is_none(name: str) -> None:
    """What a stream was sent before changes no answer."""
    (spec,) = parse_specs([name])
    model = adaptive(strategy(spec.strategy, spec.params))
    model(images("gaussian_noise")[:20], stream="old")
    x = images("clean")[:20]
    assert torch.allclose(model(x, stream="old"), model(x, stream="new"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["source", "adabn", "unmix_tns", "tent"])
def test_temperature_changes_no_prediction(name: str) -> None:
    x = images("fog")[:20]
    plain, divided = (adaptive(chosen)(x) for chosen in (strategy(name), tempered(name)))
    assert torch.equal(plain.argmax(1), divided.argmax(1))


def tempered(name: str) -> Strategy:
    return strategy(f"{name}+temperature", {"temperature.temperature": 3.0})


@pytest.mark.parametrize(
    ("name", "least", "most"), [("adabn", -3, 3), ("unmix_tns", -3, 3), ("iabn", 4, 10), ("tema", 6, 14)]
)
def test_black_frames_cost_what_the_page_says_and_are_forgotten(name: str, least: int, most: int) -> None:
    """Of a hundred clean images before them, after 64 of them in one request, and after those."""
    model = adaptive(name)
    clean = [(x, known) for _, x, known in Stream(name, ("clean",), MIXED, SMALL).requests()]

    def wrong() -> int:
        return sum(int((model(x).argmax(1) != known).sum()) for x, known in clean)

    before = wrong()
    model(images("black")[:64])
    assert least <= wrong() - before <= most
    assert wrong() <= before + 3
