"""What docs/strategies.md says of what each strategy's answers depend on, and of what it does to a stream, measured.

With the bundled network. A sentence that changes has to change here too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters import AdaptiveModel, Request, names, strategy
from adapters.normalization.linear import as_linear
from tests.sample_streams import ERRORS, FLAT, MIXED, SORTED, Stream, adaptive, images, labels, selected, send

PAGE = (Path(__file__).parent.parent / "docs" / "strategies.md").read_text()
DEPENDS = {
    "nothing else": (False, False),
    "the request's other images": (False, True),
    "the stream so far": (True, False),
    "the stream so far, and the request": (True, True),
    "the stream so far, and (unless `own` is false) the request": (True, True),
    "the image before it": (True, False),
    "the request's other images, and those remembered": (True, True),
}
"""The words of the tables' last column: whether what came before changes an answer, and the request's other images."""


def table() -> dict[str, str]:
    """From the strategies with a row that ends in what an answer depends on to those words."""
    sections = re.findall(
        r"^\| name \|[^\n]*\| a request's answer depends on \|\n(.+?)\n\n", PAGE, re.DOTALL | re.MULTILINE
    )
    rows = [line.strip("| ").split(" | ") for section in sections for line in section.splitlines()[1:]]
    return {row[0].strip("`"): row[-1] for row in rows}


def model(name: str, number: int = 0, **params: Any) -> AdaptiveModel:
    return adaptive(strategy(name, params), number=number)


def answers(asked: AdaptiveModel, x: Tensor, stream: str) -> Tensor:
    return asked(x, stream=stream).log_softmax(1)


def differ(one: Tensor, other: Tensor) -> bool:
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def dependence(name: str, **params: Any) -> tuple[bool, bool]:
    """Whether the first answer of a request changes with what the stream saw before, and with its other images."""
    asked, x, seen = model(name, **params), images("fog")[selected(SORTED)], images("clean")[selected(SORTED)]
    remembers = minds = False
    for k in range(0, 160, 40):
        part = x[k : k + 12]
        first = answers(asked, part, f"new {k}")[:1]
        answers(asked, seen[k + 40 - 16 : k + 40], f"old {k}")
        remembers |= differ(first, answers(asked, part, f"old {k}")[:1])
        minds |= differ(first, answers(asked, torch.cat([x[k : k + 1], x[k + 20 : k + 31]]), f"beside {k}")[:1])
    return remembers, minds


def test_the_tables_say_of_every_adapter_and_corrector_what_it_depends_on() -> None:
    assert sorted(table()) == sorted((*names("adapter"), *names("corrector")))


@pytest.mark.parametrize("name", sorted(table()))
def test_an_answer_depends_on_what_the_table_says(name: str) -> None:
    params = {"when": "always"} if name == "lame" else {"temperature": 2.0} if name == "temperature" else {}
    assert dependence(name, **params) == DEPENDS[table()[name]]


def test_adabn_without_its_own_images_depends_on_those_before_alone() -> None:
    assert dependence("adabn", own=False) == (True, False)


@pytest.mark.parametrize(("n", "kept"), [(1, 0.94), (50, 0.24)])
def test_alpha_bn_keeps_of_the_trained_statistics_what_the_page_says(n: int, kept: float) -> None:
    assert "a request of 1 keeps 94 % of them, one of 50 keeps 24 %" in PAGE
    rule: Any = strategy("alpha_bn")
    assert rule.weights(n).trained == pytest.approx(kept, abs=0.005)


@pytest.mark.parametrize("n", [1, 32, 50])
def test_adabn_weighs_a_request_as_the_page_says(n: int) -> None:
    assert "one of n images `1 - 0.9^(n/32)`" in PAGE
    rule = as_linear(strategy("adabn"))
    assert rule is not None
    assert rule.weights(n).momentum == pytest.approx(1 - 0.9 ** (n / 32))


@pytest.mark.parametrize(("n", "weight"), [(1, 0.01), (2, 0.01), (4, 0.1), (16, 0.1), (64, 1.0), (100, 1.0)])
def test_tema_weighs_a_request_as_the_page_says(n: int, weight: float) -> None:
    assert "0.01\n  for one or two images, 0.1 for 4 to 16, the request alone from 64 on" in PAGE
    rule = as_linear(strategy("tema"))
    assert rule is not None
    assert rule.weights(n).momentum == pytest.approx(weight)


def test_tema_answers_large_requests_as_bn_does() -> None:
    x = images("fog")[:64]
    torch.testing.assert_close(model("tema")(x), model("bn")(x), rtol=1e-4, atol=1e-4)


def test_robust_bn_weighs_every_request_alike() -> None:
    assert "0.05 per request, whatever its size" in PAGE
    rule = as_linear(strategy("robust_bn"))
    assert rule is not None
    assert [rule.weights(n).momentum for n in (1, 10, 200)] == [0.05] * 3


def test_a_new_stream_of_unmix_tns_answers_about_as_source() -> None:
    """Centred; where its components start at random, channels are off by 0.18 deviations and that costs accuracy."""
    x = images("clean")[:100]
    wrong = {}
    for start in ("centred", "random"):
        asked = model("unmix_tns", start=start)
        given = torch.cat([asked.predict([Request(x[i : i + 1], f"{i}")])[0].logits for i in range(100)])
        wrong[start] = int((given.argmax(1) != labels()[:100]).sum())
    frozen = int((model("source")(x).argmax(1) != labels()[:100]).sum())
    assert abs(wrong["centred"] - frozen) <= 2
    assert wrong["random"] > wrong["centred"]


def test_core_is_ruined_by_small_requests_unless_it_does_not_learn_from_them() -> None:
    assert "because small ones [ruin it](#core-and-small-requests)" in PAGE
    plain, learning, default = (
        Stream(name, ("fog",), SORTED, (4,)) for name in ("alpha_bn", "core:least_images=2", "core")
    )
    send({plain, learning, default})
    assert ERRORS[default] == ERRORS[plain]
    assert ERRORS[learning]["fog"] > ERRORS[plain]["fog"] + 10


def test_rotta_answers_as_source_until_its_first_update() -> None:
    rotta, source = model("rotta"), model("source", number=1)
    for part in torch.split(images("fog")[:60], 12):
        torch.testing.assert_close(rotta(part), source(part), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("of", FLAT)
@pytest.mark.parametrize("name", ["adabn", "robust_bn", "unmix_tns", "iabn", "tema"])
def test_flat_frames_are_pictures_and_are_learned_from(name: str, of: str) -> None:
    (answer,) = model(name).predict([Request(images(of)[:4])])
    assert (answer.updated, answer.outliers, answer.weight) == (True, 0, 1.0)


@pytest.mark.parametrize("sizes", [(50,), (1,)], ids=["requests of 50", "single images"])
@pytest.mark.parametrize("name", ["adabn", "iabn"])
def test_the_gate_of_lame_stays_shut_on_shuffled_images(name: str, sizes: tuple[int, ...]) -> None:
    plain, gated = (Stream(one, ("clean",), MIXED, sizes) for one in (name, f"{name}+lame"))
    send({plain, gated})
    assert abs(ERRORS[gated]["clean"] - ERRORS[plain]["clean"]) <= 1
