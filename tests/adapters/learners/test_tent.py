"""Tent against train-mode BatchNorm2d, autograd and the optimizers of torch; when it does not learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters.base import Lesson
from adapters.checks.learner import SmallNetwork, floating
from adapters.errors import ParameterError
from adapters.learners.descent import DescentState
from adapters.learners.optimizers import OPTIMIZERS
from adapters.learners.tent import Tent
from adapters.normalization.bn import BN
from tests.adapters.by_hand import Copy, train_mode

THEIRS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_answers_and_parameters_are_those_of_a_literal_loop(optimizer: str, steps: int) -> None:
    network = SmallNetwork(BN(), torch.float64)
    learner, reference = Tent(lr=0.01, steps=steps, optimizer=optimizer), Copy(network, train_mode)
    theirs = THEIRS[optimizer](reference.parameters())
    start = network.start(floating(1, 0))
    state, row = learner.init(start), start.row
    for number, n in enumerate((16, 1, 3, 16, 2, 8)):
        images = floating(n, number)
        answer, after = network(images, row, learner.affine(state))
        for step in range(steps):
            logits = reference(images)
            if step == 0:
                torch.testing.assert_close(answer, logits, rtol=1e-5, atol=1e-5)
            p = logits.softmax(1)
            loss = -(p * p.log()).sum(1).mean()
            theirs.zero_grad()
            loss.backward()
            theirs.step()
        state, row = learner.learn(state, Lesson(images, answer.float(), row, after), network)
        torch.testing.assert_close(learner.affine(state), reference.moved().float(), rtol=1e-5, atol=1e-6)
        assert row is after
    assert float(learner.affine(state).abs().max()) > 0.005


def _lesson(
    learner: Tent, images: Tensor, network: SmallNetwork | None = None
) -> tuple[SmallNetwork, DescentState, Lesson]:
    network = network or SmallNetwork(BN())
    start = network.start(images[:1])
    state = learner.init(start)
    logits, after = network(images, start.row, learner.affine(state))
    return network, state, Lesson(images, logits, start.row, after)


def test_answers_become_surer() -> None:
    learner = Tent(lr=0.01)
    network, state, lesson = _lesson(learner, floating(16, 1))
    before = float(learner.loss(lesson.logits))
    for _ in range(20):
        state, _ = learner.learn(state, lesson, network)
    assert float(learner.loss(network(lesson.images, lesson.before, state.affine)[0])) < 0.9 * before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_lesson_is_the_same_in_every_gradient_mode(mode: Callable[[], torch.no_grad]) -> None:
    learner = Tent()
    network, state, lesson = _lesson(learner, floating(4, 1))
    expected = learner.learn(state, lesson, network)[0]
    assert expected.affine.any()
    with mode():
        network, state, lesson = _lesson(learner, floating(4, 1), network)
        found = learner.learn(state, lesson, network)[0]
    torch.testing.assert_close(found, expected)


def test_a_step_that_is_not_finite_is_not_taken() -> None:
    learner = Tent()
    network, state, lesson = _lesson(learner, floating(4, 1))
    state, _ = learner.learn(state, lesson, network)
    broken = lesson._replace(images=lesson.images.index_fill(0, torch.tensor([0]), torch.nan))
    after, row = learner.learn(state, broken, network)
    assert all(now is then for now, then in zip(after, state, strict=True))
    assert row is lesson.after


class Steep:
    """A network whose gradient is finite, but not its square."""

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([1e25 * affine.sum(), torch.ones(()) - 1e25 * affine.sum()])[None], row


def test_a_square_that_overflows_is_not_remembered() -> None:
    learner = Tent()
    _, state, lesson = _lesson(learner, floating(1, 1))
    after, _ = learner.learn(state, lesson, Steep())
    assert all(now is then for now, then in zip(after, state, strict=True))


def test_a_network_without_affine_parameters_stays_as_it_is() -> None:
    learner = Tent()
    network, _, lesson = _lesson(learner, floating(4, 1))
    state = learner.init(network.start(lesson.images[:1])._replace(affine=0))

    def plain(images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        assert affine.shape == (0,)
        return lesson.logits, row

    after, _ = learner.learn(state, lesson, plain)
    assert after.affine.shape == (0,)


def test_small_requests_can_be_left_out() -> None:
    learner = Tent(least_images=3)
    network, state, lesson = _lesson(learner, floating(2, 1))
    assert learner.learn(state, lesson, network) == (state, lesson.after)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": 2.0}, {"steps": 0}, {"optimizer": "lbfgs"}, {"least_images": 0}])
def test_wrong_hyperparameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Tent(**wrong)
