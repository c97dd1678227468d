"""LAME against the authors' numbers and against a slow loop in double precision; the gate is in test_lame_memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters.correctors import affinity
from adapters.correctors.affinity import AFFINITIES, assign, directions
from adapters.correctors.lame import Lame
from adapters.errors import ParameterError

plain = partial(Lame, affinity="knn", memory=0, when="always")

with np.load(Path(__file__).parents[2] / "golden" / "lame.npz") as archive:
    GOLDEN = {key: torch.from_numpy(archive[key]) for key in archive.files}

SLOW = settings(max_examples=12, deadline=None, derandomize=True)
Rows = list[list[float]]


def _answer(lame: Lame, features: Tensor, logits: Tensor) -> Tensor:
    return lame.correct(lame.init(features.shape[1], logits.shape[1]), features, logits)[0]


def _draw(seed: int, images: int, classes: int = 4, features: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(images, features) + normal(1, features), 2 * normal(images, classes)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["knn", "rbf"])
def test_the_published_code(seed: int, kind: str) -> None:
    answer = _answer(plain(affinity=kind), GOLDEN[f"seed{seed}__feats"], GOLDEN[f"seed{seed}__logits"])
    torch.testing.assert_close(answer, GOLDEN[f"seed{seed}__out_{kind}5"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_published_affinity(seed: int) -> None:
    units = directions(GOLDEN[f"seed{seed}__feats"])
    assert torch.equal(AFFINITIES["knn"](units, 5).float(), GOLDEN[f"seed{seed}__knn5_affinity"])


def _units(features: Tensor) -> Rows:
    rows: Rows = features.tolist()
    return [[x / math.hypot(*row) for x in row] for row in rows]


def _nearest(units: Rows, n: int) -> list[int]:
    return sorted(range(len(units)), key=lambda j: -1.0 if j == n else math.dist(units[n], units[j]))


def _knn(units: Rows, k: int) -> Rows:
    return [[float(j in _nearest(units, n)[1 : k + 1]) for j in range(len(units))] for n in range(len(units))]


def _rbf(units: Rows, k: int) -> Rows:
    reaches = [math.dist(row, units[_nearest(units, n)[:k][-1]]) for n, row in enumerate(units)]
    s = math.fsum(reaches) / len(reaches)
    return [[math.exp(-(math.dist(a, b) ** 2) / (2 * s**2)) for b in units] for a in units]


def _linear(units: Rows, k: int) -> Rows:
    return [[math.fsum(x * y for x, y in zip(a, b, strict=True)) for b in units] for a in units]


LOOPS: dict[str, Callable[[Rows, int], Rows]] = {"knn": _knn, "rbf": _rbf, "linear": _linear}


def _softmax(row: list[float]) -> list[float]:
    weights = [math.exp(x - max(row)) for x in row]
    return [w / math.fsum(weights) for w in weights]


def _loop(w: Rows, logits: Rows, weight: float, most: int) -> tuple[Rows, int]:
    """The assignment and how many iterations it took, by the formulas and the stop rule as published."""
    u = [[-math.log(p + 1e-10) for p in _softmax(row)] for row in logits]
    y = [_softmax([-x for x in row]) for row in u]
    images, classes, before = range(len(u)), range(len(u[0])), math.inf
    for i in range(most):
        wy = [[math.fsum(w[n][j] * y[j][k] for j in images) for k in classes] for n in images]
        y = [_softmax([weight * wy[n][k] - u[n][k] for k in classes]) for n in images]
        energy = math.fsum(
            u[n][k] * y[n][k] - weight * wy[n][k] * y[n][k] + y[n][k] * math.log(max(y[n][k], 1e-20))
            for n in images
            for k in classes
        )
        if i > 1 and abs(energy - before) <= 1e-8 * abs(before):
            return y, i + 1
        before = energy
    return y, most


@SLOW
@given(
    st.integers(0, 10**6),
    st.integers(2, 9),
    st.sampled_from(sorted(AFFINITIES)),
    st.integers(2, 12),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
)
def test_a_loop(seed: int, images: int, kind: str, neighbours: int, weight: float) -> None:
    features, logits = _draw(seed, images)
    expected, _ = _loop(LOOPS[kind](_units(features), neighbours), logits.tolist(), weight, 100)
    answer = _answer(plain(affinity=kind, neighbours=neighbours, weight=weight), features, logits)
    torch.testing.assert_close(answer, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 7, 11, 100])
@pytest.mark.parametrize("much", [0, 2**13])
def test_lame_ends_at_the_iteration_of_the_published_rule(
    most: int, much: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "LARGE_ASSIGNMENT", much)
    features, logits = _draw(3, 8)
    expected, taken = _loop(_knn(_units(features), 3), logits.tolist(), 1.0, most)
    scores, w = (logits.softmax(-1) + 1e-10).log(), AFFINITIES["knn"](directions(features), 3)
    answer = assign(scores, w, 1.0, most)
    torch.testing.assert_close(answer, torch.tensor(expected, dtype=torch.float64), atol=1e-11, rtol=0)
    assert taken == most or 11 < taken < 100
    # The iterates still move by more than the tolerance above, so an end one sooner or later would be seen.
    assert float(((scores + w @ answer).softmax(-1) - answer).abs().max()) > 1e-10


@pytest.mark.parametrize("kind", sorted(AFFINITIES))
def test_one_image_is_as_the_network_saw_it(kind: str) -> None:
    features, logits = (part.float() for part in _draw(0, 1))
    torch.testing.assert_close(_answer(plain(affinity=kind), features, logits), logits.softmax(-1))


@pytest.mark.parametrize("neighbours", [1, 2, 5, 100])
@pytest.mark.parametrize("kind", sorted(AFFINITIES))
def test_duplicates_and_features_of_zero_give_numbers(kind: str, neighbours: int) -> None:
    features, logits = (part.float() for part in _draw(1, 6))
    lame = plain(affinity=kind, neighbours=neighbours)
    for given_features in (features[:1].repeat(6, 1), features[:2].repeat(3, 1), 0 * features, 1e38 * features.sign()):
        answer = _answer(lame, given_features, logits)
        assert bool(answer.isfinite().all())
        torch.testing.assert_close(answer.sum(-1), torch.ones(6))


def test_identical_images_are_alike_and_others_are_not_where_the_reach_is_zero() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert AFFINITIES["rbf"](directions(features), 2).tolist() == [
        [1.0, 0.0, 1.0, 0.0],
        [0.0, 1.0, 0.0, 1.0],
        [1.0, 0.0, 1.0, 0.0],
        [0.0, 1.0, 0.0, 1.0],
    ]


def test_an_unsure_image_is_answered_as_those_that_look_like_it() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.05], [1.0, 0.1], [0.0, 1.0], [0.05, 1.0]])
    logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 0.4], [0.0, 3.0], [0.0, 3.0]])
    assert _answer(plain(neighbours=1), features, logits).argmax(-1).tolist() == [0, 0, 0, 1, 1]
    assert _answer(plain(neighbours=1, weight=0.0), features, logits).argmax(-1).tolist() == [0, 0, 1, 1, 1]


@SLOW
@given(st.integers(0, 10**6), st.sampled_from(sorted(AFFINITIES)))
def test_the_order_of_the_images_plays_no_part(seed: int, kind: str) -> None:
    features, logits = _draw(seed, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    lame = plain(affinity=kind, neighbours=3)
    # The energy, a sum, may end the iteration one sooner or later in another order.
    torch.testing.assert_close(
        _answer(lame, features[order], logits[order]), _answer(lame, features, logits)[order], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"affinity": "cosine"}, "affinity must be one of knn, rbf, linear"),
        ({"neighbours": 0}, "neighbours must be an integer"),
        ({"weight": -1.0}, "weight must be a number"),
        ({"iterations": 0}, "iterations must be an integer"),
        ({"memory": -1}, "memory must be an integer"),
        ({"when": "seldom"}, "when must be one of correlated, always, never"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(params: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        plain(**params)  # type: ignore[arg-type]
