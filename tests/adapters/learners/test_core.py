"""Core's loss against sums over pairs of classes, and its steps against train-mode layers and autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters.base import Lesson
from adapters.checks.learner import SmallNetwork, floating
from adapters.learners.core import Core
from adapters.normalization.alpha_bn import AlphaBN
from adapters.normalization.bn import BN
from tests.adapters.by_hand import Copy, train_mode


def _by_pairs(logits: Tensor, normalize: str) -> Tensor:
    """The mean over classes of what each shares with all others, term by term."""
    p = logits.double().softmax(1)
    n, classes = p.shape
    r = [[sum(p[i, a] * p[i, b] for i in range(n)) for b in range(classes)] for a in range(classes)]
    total = torch.zeros((), dtype=torch.float64)
    for a in range(classes):
        whole = n if normalize == "images" else sum(r[a])
        total = total + sum(r[a][b] / whole for b in range(classes) if b != a)
    return total / classes


cases = st.tuples(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 5))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cases, st.sampled_from(["images", "classes"]))
def test_the_loss(case: tuple[int, int, int], normalize: str) -> None:
    seed, n, classes = case
    logits = 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    loss = Core(normalize=normalize).loss(logits)
    torch.testing.assert_close(loss, _by_pairs(logits, normalize), rtol=1e-9, atol=1e-12)
    assert 0 <= float(loss) < 1
    # Showing every image twice says nothing new.
    torch.testing.assert_close(Core(normalize=normalize).loss(torch.cat([logits, logits])), loss)


@pytest.mark.parametrize("normalize", ["images", "classes"])
def test_sure_answers_of_all_classes_show_no_correlation(normalize: str) -> None:
    assert float(Core(normalize=normalize).loss(200 * torch.eye(3))) == pytest.approx(0.0, abs=1e-12)


def test_predicting_one_class_only_has_a_loss_with_normalize_classes() -> None:
    # Ten images that are all named the first of two classes, of which a few show a little of the second.
    logits = torch.tensor([[6.0, 0.0]] * 10)
    assert float(Core(normalize="images").loss(logits)) < 0.01
    assert float(Core(normalize="classes").loss(logits)) > 0.4


@pytest.mark.parametrize("normalize", ["images", "classes"])
def test_its_steps_are_those_of_a_literal_loop(normalize: str) -> None:
    # With no weight on the source alpha-BN is train-mode BatchNorm.
    network = SmallNetwork(AlphaBN(source_weight=0.0), torch.float64)
    learner, reference = Core(lr=0.01, normalize=normalize, least_images=2), Copy(network, train_mode)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    start = network.start(floating(1, 0))
    state = learner.init(start)
    for number, n in enumerate((5, 2, 8)):
        images = floating(n, number)
        optimizer.zero_grad()
        torch.autograd.backward(_by_pairs(reference(images), normalize))
        optimizer.step()
        answer, after = network(images, start.row, learner.affine(state))
        state, _ = learner.learn(state, Lesson(images, answer.float(), start.row, after), network)
        torch.testing.assert_close(learner.affine(state), reference.moved().float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("images", [1, 4, 99])
def test_requests_below_least_images_teach_nothing(images: int) -> None:
    network = SmallNetwork(BN())
    start, shown = network.start(floating(1, 0)), floating(images, 0)
    logits, after = network(shown, start.row, torch.zeros(start.affine))
    lesson = Lesson(shown, logits, start.row, after)
    state = Core().init(start)
    assert Core().learn(state, lesson, network) == (state, after)
    assert Core(least_images=images).learn(state, lesson, network)[0].affine.any()
