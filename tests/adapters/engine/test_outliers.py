"""Finite numbers that no image gives: answered, and nothing of any strategy learns them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters import AdaptiveModel, Answer, Key, Request, names, strategy
from adapters.engine.outliers import BOUND, LOUD
from adapters.normalization.linear import as_linear
from app.models.pixels import Pixels
from tests.sample_streams import adaptive as wrapped
from tests.sample_streams import hosted
from tests.sample_streams import images as pictures

SAMPLE = Path(__file__).parents[3] / "benchmarks" / "sample"
POINTS = 5
"""By how many of a hundred clean images the error may differ from that of a stream that met nothing absurd."""
TEN = {"robust_bn": 25, "adabn": 10, "shrinkage": 10}
"""The same after ten of them in a row: to `robust_bn` ten copies of an ordinary image cost 4, and to `shrinkage` ten
alike are a new domain, which it follows at once, there and back."""
ALL = [*names("adapter"), *(f"unmix_tns+{name}" for name in (*names("learner"), "lame", "cofa")), "adabn+lame", "tent"]


@cache
def clean() -> tuple[Tensor, Tensor]:
    """A hundred images as the bundled network takes them, and their classes."""
    pixels, labels = (torch.from_numpy(np.load(SAMPLE / f"{name}.npy"))[:100] for name in ("clean", "labels"))
    return Pixels(hosted().preprocessing)(pixels), labels.long()


def model(name: str, bound: float = BOUND, number: int = 0) -> AdaptiveModel:
    return wrapped(name, bound=bound, number=number)


def with_pixel(value: float) -> Tensor:
    image = clean()[0][:1].clone()
    image[:, 0, 16, 16] = value
    return image


def with_channel(value: float) -> Tensor:
    image = clean()[0][:1].clone()
    image[:, 1] = value
    return image


def raw(images: int) -> Tensor:
    how = hosted().preprocessing
    mean, std = (torch.tensor(part)[:, None, None] for part in (how.mean, how.std))
    return ((clean()[0][:images] * std + mean) * 255).round()


ABSURD = {
    "raw pixels": raw(1),
    "raw pixels, 16 images": raw(16),
    "raw pixels of 16 bits": 257 * raw(1),
    "a hundredfold": 100 * clean()[0][:1],
    "tenfold": 10 * clean()[0][:1],
    "one pixel of a thousand": with_pixel(1e3),
    "one pixel of a quintillion": with_pixel(1e15),
    "one channel": with_channel(1e4),
    "one of eight images": torch.cat([clean()[0][:7], raw(1)]),
}


def errors_side_by_side(adaptive: AdaptiveModel, streams: Sequence[str]) -> dict[str, int]:
    """Of each stream, on the hundred images, ten in a request."""
    images, labels = clean()
    found = dict.fromkeys(streams, 0)
    for part, known in zip(images.view(10, 10, 3, 32, 32), labels.view(10, 10), strict=True):
        answers = adaptive.predict([Request(part, stream) for stream in streams])
        for stream, answer in zip(streams, answers, strict=True):
            found[stream] += int((answer.logits.argmax(1) != known).sum())
    return found


def errors(adaptive: AdaptiveModel, stream: str) -> int:
    return errors_side_by_side(adaptive, [stream])[stream]


@pytest.mark.parametrize("name", ALL)
def test_outliers_leave_no_trace_in_a_stream(name: str) -> None:
    adaptive = model(name)
    adaptive.predict([Request(part) for part in torch.split(clean()[0][:20], 5)])
    before = str(adaptive.state_dict())
    for kind, answer in zip(ABSURD, adaptive.predict([Request(images) for images in ABSURD.values()]), strict=True):
        assert answer.outliers == (16 if "16 images" in kind else 1), kind
        assert (answer.updated, answer.weight) == (False, 0.0)
        assert answer.step == 4
        assert answer.finite
    assert str(adaptive.state_dict()) == before


JUST_NOT = ["raw pixels", "one pixel of a thousand", "one channel"]


class Aftermath(NamedTuple):
    """A stream that learned the largest that is not absurd, and errors on the hundred images, read twice after it."""

    updated: bool
    wrong: list[int]
    expected: list[int]


@cache
def learned(name: str) -> dict[str, Any]:
    """The state of a model with one stream, which met forty ordinary images."""
    adaptive = model(name)
    for part in torch.split(clean()[0][:40], 10):
        adaptive(part)
    return adaptive.state_dict()


def experienced(name: str, streams: Sequence[str]) -> AdaptiveModel:
    """A model whose streams all met the same forty images."""
    adaptive, state = model(name), learned(name)
    (stream,) = state["streams"]
    adaptive.load_state_dict({**state, "streams": [{**stream, "stream": other} for other in streams]})
    return adaptive


@cache
def largest(name: str) -> dict[str, float]:
    """Of each kind, how much of it a stream learns from before it is absurd; found by halving the exponent, to 4 %."""
    adaptive, usual, bounds = experienced(name, ["default"]), clean()[0][:1], dict.fromkeys(JUST_NOT, (1e-4, 1.0))
    for _ in range(8):
        middles = {kind: math.sqrt(low * high) for kind, (low, high) in bounds.items()}
        shown = [torch.lerp(usual, ABSURD[kind], middle) for kind, middle in middles.items()]
        answers = adaptive.predict([Request(image, update=False) for image in shown])
        for kind, answer in zip(JUST_NOT, answers, strict=True):
            low, high = bounds[kind]
            bounds[kind] = (low, middles[kind]) if answer.outliers else (middles[kind], high)
    return {kind: low for kind, (low, _) in bounds.items()}


@cache
def aftermaths(name: str) -> dict[str, Aftermath]:
    """Of each kind, side by side in one model."""
    found, usual, streams = largest(name), clean()[0][:1], [*JUST_NOT, "other"]
    adaptive = experienced(name, streams)
    taught = adaptive.predict([Request(torch.lerp(usual, ABSURD[kind], found[kind]), kind) for kind in JUST_NOT])
    passes = [errors_side_by_side(adaptive, streams) for _ in range(2)]
    return {
        kind: Aftermath(answer.updated, *([wrong[stream] for wrong in passes] for stream in (kind, "other")))
        for kind, answer in zip(JUST_NOT, taught, strict=True)
    }


@pytest.mark.parametrize("kind", JUST_NOT)
@pytest.mark.parametrize("name", sorted({*names("adapter")} - {"source", "bn", "alpha_bn"}))
def test_an_image_just_within_the_bound_moves_little_and_is_forgotten(name: str, kind: str) -> None:
    updated, wrong, expected = aftermaths(name)[kind]
    assert updated
    assert wrong[0] <= expected[0] + POINTS
    assert wrong[1] <= expected[1] + POINTS


REMEMBERING = sorted({*names("adapter")} - {"source", "bn", "alpha_bn"})
AVERAGING = [name for name in REMEMBERING if as_linear(strategy(name)) is not None]
SHARES = (0.3, 0.6, 1.0)


@pytest.mark.parametrize("name", REMEMBERING)
def test_ten_images_just_within_the_bound_move_little(name: str) -> None:
    found, usual = largest(name), clean()[0][:1]
    streams = [f"{kind} {share}" for kind in JUST_NOT for share in SHARES]
    adaptive = experienced(name, [*streams, ""])
    for _ in range(10):
        adaptive.predict(
            [
                Request(torch.lerp(usual, ABSURD[kind], found[kind] * share), f"{kind} {share}")
                for kind in JUST_NOT
                for share in SHARES
            ]
        )
    wrong = errors_side_by_side(adaptive, [*streams, ""])
    for stream in streams:
        assert wrong[stream] <= wrong[""] + TEN.get(name, POINTS), stream


@pytest.mark.parametrize("kind", ABSURD)
@pytest.mark.parametrize("name", AVERAGING)
def test_a_request_moves_the_first_site_no_further_than_a_loud_image(name: str, kind: str) -> None:
    adaptive, usual = model(name), clean()[0][:1]
    site, weights = adaptive.sites[0], []
    rule = as_linear(adaptive.strategy)
    assert rule is not None
    for step, share in enumerate((1e-3, 1e-2, 0.03, 0.1, 0.3)):
        image = torch.lerp(usual, ABSURD[kind][-1:], share)
        (answer,) = adaptive.predict([Request(image, f"{step}")])
        weights.append(answer.weight)
        memory = adaptive.memories().get(Key(f"{step}", adaptive.strategy))
        if memory is None:
            assert answer.outliers
            continue
        assert answer.updated
        mean, var = memory.row[: 2 * site.channels].chunk(2)
        scale, pace = site.var + site.eps, rule.weights(1).momentum
        assert ((var - site.var).abs() / scale).mean() <= pace * LOUD**2 * 1.001
        assert ((mean - site.mean).square() / scale).mean() <= (pace * LOUD) ** 2 * 1.001
    assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize("of", ["clean", "contrast", "fog", "gaussian_noise", "black", "white"])
@pytest.mark.parametrize("name", AVERAGING)
def test_ordinary_pictures_move_a_stream_as_far_as_ever(name: str, of: str) -> None:
    bounded, free = model(name), model(name, bound=math.inf)
    for n, part in enumerate(torch.split(pictures(of)[:60], 12)):
        requests = [Request(part[: 1 + 3 * n], "a"), Request(part, "b")]
        assert [answer.weight for answer in bounded.predict(requests)] == [1.0, 1.0]
        free.predict(requests)
    assert str(bounded.state_dict()) == str(free.state_dict())


@pytest.mark.parametrize("name", [*AVERAGING, "adabn+lame", "adabn+tent"])
def test_faded_requests_are_the_same_joined_and_separate(name: str) -> None:
    loud = torch.lerp(clean()[0][:1], ABSURD["raw pixels"], 0.075)
    parts = [clean()[0][:4], torch.cat([clean()[0][4:6], loud]), clean()[0][6:9], loud, clean()[0][9:12]]
    requests = [Request(part, stream) for part in parts for stream in ("a", "b")]
    requests.insert(3, Request(loud, "c", update=False))
    glued, separate = model(name), model(name, number=1)
    together = glued.predict(requests)
    for ours, theirs in zip(together, (separate.predict([request])[0] for request in requests), strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)
        assert ours.weight == pytest.approx(theirs.weight)
        assert ours[3:6] == theirs[3:6]
    assert {0 < answer.weight < 1 for answer in together} == {True, False}
    for key, memory in glued.memories().items():
        torch.testing.assert_close(memory.row, separate.memories()[key].row, rtol=1e-4, atol=1e-4)


def test_without_a_bound_outliers_are_learned_from() -> None:
    adaptive = model("adabn", float("inf"))
    before = errors(adaptive, "s")
    assert adaptive.predict([Request(raw(1))])[0].updated
    assert errors(adaptive, "default") >= before + 15


@pytest.mark.parametrize("name", ["adabn", "unmix_tns", "iabn", "source+lame", "bn", "adabn:cumulative"])
def test_requests_beside_an_outlier_are_answered_as_if_separate(name: str) -> None:
    """Before it and after it in its own stream too."""
    one, params = name.partition(":")[0], {"cumulative": True} if ":" in name else {}
    alone, together = (wrapped(strategy(one, params), number=number) for number in range(2))
    images = clean()[0]
    shown = [("a", images[:4]), ("b", images[4:8]), ("b", raw(4)), ("b", images[8:12]), ("a", images[12:16])]
    requests = [Request(part, stream) for stream, part in shown]
    expected: list[Answer] = [alone.predict([request])[0] for request in requests]
    found = together.predict(requests)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.logits, theirs.logits, atol=2e-4, rtol=1e-4)
        assert (ours.step, ours.updated, ours.outliers) == (theirs.step, theirs.updated, theirs.outliers)
    assert [answer.outliers for answer in found] == [0, 0, 4, 0, 0]


PICTURES = {
    "black": torch.zeros(4, 32, 32, 3, dtype=torch.uint8),
    "white": torch.full((4, 32, 32, 3), 255, dtype=torch.uint8),
    "red": torch.tensor([255, 0, 0], dtype=torch.uint8).expand(4, 32, 32, 3).contiguous(),
    "noise of black and white": 255 * torch.randint(0, 2, (4, 32, 32, 3), generator=torch.Generator().manual_seed(0)),
    "checkerboard": 255 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)[None, :, :, None].repeat(4, 1, 1, 3),
    **{
        file.stem: torch.from_numpy(np.load(file)[::2])
        for file in sorted(SAMPLE.glob("*.npy"))
        if file.stem != "labels"
    },
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_picture_is_learned_from(kind: str) -> None:
    images = Pixels(hosted().preprocessing)(PICTURES[kind].to(torch.uint8))
    assert model("adabn").predict([Request(images)])[0].outliers == 0


def test_a_stream_that_learned_something_wrong_learns_better() -> None:
    """A stream of black images at momentum 1 has no variance left, so later sites see what no image gave."""
    adaptive = wrapped(strategy("robust_bn", {"momentum": 1.0}))
    for _ in range(3):
        adaptive(Pixels(hosted().preprocessing)(PICTURES["black"]))
    assert adaptive.predict([Request(clean()[0][:50])])[0].updated
