"""RoTTA against a literal loop of two modules, and what it does where the paper is silent."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, UnMixTNS, strategy
from adapters.base import AnyLearner, Lesson, Moments, Statistics
from adapters.checks.learner import CLASSES, SmallNetwork, floating, pixels
from adapters.errors import ParameterError
from adapters.learners.rotta import RoTTA, RottaState
from adapters.normalization.adabn import AdaBN
from adapters.normalization.alpha_bn import AlphaBN
from adapters.normalization.bn import BN
from adapters.normalization.frozen import Frozen, frozen
from adapters.normalization.robust_bn import RobustBN
from tests.adapters.by_hand import Copy, ListBank, Robust, rotta_update


class Stream:
    """One stream of a network: answers requests and learns from them."""

    def __init__(self, learner: AnyLearner, network: SmallNetwork, image: Tensor) -> None:
        self.learner, self.network = learner, network
        self.answering = SmallNetwork(learner.answering(network.adapter), network.dtype)
        start = network.start(image)
        self.state, self.row = learner.init(start), start.row

    def lesson(self, images: Tensor) -> Lesson:
        logits, after = self.answering(images, self.row, self.learner.affine(self.state))
        return Lesson(images, logits, self.row, after)

    def serve(self, images: Tensor) -> Tensor:
        lesson = self.lesson(images)
        self.state, self.row = self.learner.learn(self.state, lesson, self.network)
        return lesson.logits


def changed(images: Tensor) -> Tensor:
    """In place of augmented ones."""
    return 0.7 * images.flip(3) + 0.2


@pytest.mark.parametrize("size", [1, 16, 100])
@pytest.mark.parametrize("small", [False, True])
def test_rotta_is_the_literal_loop(size: int, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Something must differ between what student and teacher see, or the slope is zero and Adam follows its rounding.
    monkeypatch.setattr("adapters.learners.rotta.augment", lambda images, seed, number: changed(images))
    # A bank of 64 and an update every 64 images as published, or so small that much is evicted and learned.
    capacity, every, lr, rate = (10, 15, 0.01, 0.2) if small else (64, 64, 1e-3, 1e-3)
    learner = RoTTA(capacity=capacity, update_every=every, lr=lr, teacher_rate=rate)
    network = SmallNetwork(RobustBN(), torch.float64)
    ours = Stream(learner, network, floating(1, 0))
    student, bank, seen = Copy(network, Robust), ListBank(capacity, CLASSES), 0
    teacher = copy.deepcopy(student)
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    images = floating(300, 1) * torch.linspace(0.7, 1.5, 300).view(-1, 1, 1, 1)
    for request in torch.split(images, size):
        teacher.eval()
        with torch.no_grad():
            answer = teacher(request)
        torch.testing.assert_close(ours.serve(request), answer, rtol=1e-4, atol=1e-4)
        shares = answer.softmax(1)
        for image, p in zip(request, shares, strict=True):
            bank.offer(image, int(p.argmax()), float(-(p * (p + 1e-6).log()).sum()))
            seen += 1
            if seen % every == 0:
                rotta_update(student, teacher, optimizer, bank, rate, changed)
    assert int(ours.state.updates) == 300 // every
    assert int(ours.state.images_seen) == 300
    _near(ours.state.student, student.moved())
    _near(ours.state.teacher, teacher.moved())
    _near(ours.row, teacher.statistics())
    _near(ours.state.row, student.statistics())
    assert float(ours.state.student.abs().max()) > lr, "else nothing was compared"
    held = sorted((float(image.sum()), age) for items in bank.held for image, _, age in items)
    kept = zip(ours.state.images.sum((1, 2, 3)).tolist(), ours.state.ages.tolist(), strict=True)
    assert [age for _, age in sorted(kept)] == [age for _, age in held]


def _near(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)


def test_by_default_the_student_sees_augmented_images_of_another_draw_each_time() -> None:
    rows = []
    for learner in (RoTTA(), RoTTA(seed=1), RoTTA(augment=False)):
        stream = Stream(learner, SmallNetwork(RobustBN()), pixels(1, 0))
        stream.serve(pixels(64, 1))
        rows.append((stream.state.row, stream.row))
    assert not torch.equal(rows[0][0], rows[1][0])
    assert not torch.equal(rows[0][0], rows[2][0])
    # The teacher sees the images as they are.
    assert all(torch.equal(rows[0][1], teacher) for _, teacher in rows)


def test_between_updates_nothing_but_the_bank_moves() -> None:
    stream = Stream(RoTTA(), SmallNetwork(RobustBN()), pixels(1, 0))
    before, row = stream.state, stream.row
    stream.serve(pixels(63, 1))
    for name in ("student", "teacher", "first", "second", "updates", "row"):
        assert getattr(stream.state, name) is getattr(before, name)
    assert torch.equal(stream.row, row)
    assert int(stream.state.filled.sum()) > 10
    stream.serve(pixels(1, 2))
    assert int(stream.state.updates) == 1
    assert not torch.equal(stream.row, row)


def test_a_large_request_is_several_updates() -> None:
    stream = Stream(RoTTA(capacity=8, update_every=8), SmallNetwork(RobustBN()), pixels(1, 0))
    stream.serve(pixels(33, 1))
    assert int(stream.state.updates) == 4


def test_the_bytes_of_a_state_are_constant() -> None:
    stream = Stream(RoTTA(capacity=8, update_every=8), SmallNetwork(RobustBN()), pixels(1, 0))
    bytes_before = sum(field.nbytes for field in stream.state)
    for number, n in enumerate((1, 5, 40)):
        stream.serve(pixels(n, number))
        assert sum(field.nbytes for field in stream.state) == bytes_before


def test_images_of_another_form_start_the_bank_anew_and_keep_what_was_learned() -> None:
    stream = Stream(RoTTA(capacity=8, update_every=8), SmallNetwork(RobustBN()), pixels(1, 0))
    stream.serve(pixels(17, 1))
    learned = stream.state.teacher
    assert learned.any()
    for images in (pixels(3, 2)[:, :5], floating(3, 3)):
        stream.serve(images)
        assert stream.state.images.shape[1:] == images.shape[1:]
        assert stream.state.images.dtype == images.dtype
        assert int(stream.state.filled.sum()) <= 3
        assert stream.state.teacher is learned
    assert int(stream.state.images_seen) == 23


class Explodes(SmallNetwork):
    """Gives no numbers once it is asked for a gradient."""

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        logits, after = super().__call__(images, row, affine)
        return (logits * torch.nan if affine.requires_grad else logits), after


def test_an_update_that_is_not_finite_does_not_happen() -> None:
    stream = Stream(RoTTA(update_every=8), Explodes(RobustBN()), pixels(1, 0))
    before, row = stream.state, stream.row
    stream.serve(pixels(8, 1))
    for name in ("student", "teacher", "first", "second", "updates", "row"):
        assert getattr(stream.state, name) is getattr(before, name)
    assert torch.equal(stream.row, row)
    assert stream.state.filled.any()
    assert int(stream.state.images_seen) == 8


def test_answers_that_are_not_finite_do_not_enter_the_bank() -> None:
    stream = Stream(RoTTA(update_every=2), SmallNetwork(RobustBN()), pixels(1, 0))
    lesson = stream.lesson(pixels(2, 1))
    state, row = stream.learner.learn(
        stream.state, lesson._replace(logits=torch.full_like(lesson.logits, torch.nan)), stream.network
    )
    assert not state.filled.any()
    assert int(state.updates) == 0
    assert row is lesson.after


def test_lesson_under_inference_mode_is_the_same() -> None:
    states = []
    for mode in (torch.no_grad, torch.inference_mode):
        stream = Stream(RoTTA(update_every=8), SmallNetwork(RobustBN()), pixels(1, 0))
        with mode():
            stream.serve(pixels(16, 1))
        states.append((*stream.state, stream.row))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize("adapter", [RobustBN(), RobustBN(momentum=0.5), AdaBN(), AdaBN(own=False)])
def test_adapters_that_are_linear_and_remember_are_frozen(adapter: Any) -> None:
    held = RoTTA().answering(adapter)
    assert held == Frozen(adapter)
    assert held.linear
    assert hash(held) == hash(Frozen(dataclasses.replace(adapter)))
    network = SmallNetwork(adapter)
    site = network.sites[0]
    state = Statistics(site.mean + 1, site.var + 1)
    for pixels_each in (1, 9):
        used, after = held.step(site, state, Moments(torch.zeros(1, 5), torch.ones(1, 5), pixels_each))
        assert torch.equal(used.mean, state.mean)
        assert torch.equal(used.var, state.var)
        assert after is state
    assert all(torch.equal(a, b) for a, b in zip(held.init(site), adapter.init(site), strict=True))


@pytest.mark.parametrize("adapter", [BN(), AlphaBN(), UnMixTNS(), AdaBN(cumulative=True)])
def test_adapters_that_are_not_linear_step_with_every_request_and_with_the_bank(adapter: Any) -> None:
    assert frozen(adapter) is adapter
    stream = Stream(RoTTA(update_every=8), SmallNetwork(adapter), pixels(1, 0))
    lesson = stream.lesson(pixels(4, 1))
    state, row = stream.learner.learn(stream.state, lesson, stream.network)
    assert row is lesson.after
    stream.state, stream.row = state, row
    stream.serve(pixels(4, 2))
    assert int(stream.state.updates) == 1
    assert stream.state.teacher.any()
    assert stream.row.shape == row.shape


def test_a_teacher_that_does_not_follow_answers_as_trained() -> None:
    stream = Stream(RoTTA(update_every=8, teacher_rate=0.0), SmallNetwork(RobustBN()), pixels(1, 0))
    stream.serve(pixels(32, 1))
    state: RottaState = stream.state
    assert state.student.any()
    assert not stream.learner.affine(state).any()


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"update_every": 0}, {"teacher_rate": 1.5}, {"lambda_t": -1.0}])
def test_wrong_hyperparameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        RoTTA(**wrong)


@pytest.mark.parametrize(
    ("images", "width"),
    [(torch.zeros(2, 20, 20, 3, dtype=torch.uint8), 1), (torch.zeros(2, 3, 20, 20), 4)],
    ids=["pixels", "prepared"],
)
def test_a_bank_holds_images_as_requests_do(images: Tensor, width: int) -> None:
    class Prepare(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels if pixels.is_floating_point() else pixels.permute(0, 3, 1, 2) / 255

    network = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model = AdaptiveModel(network, "rotta", prepare=Prepare())
    model(images)
    without, two = (model.state_bytes(strategy("rotta", {"capacity": capacity})) for capacity in (1, 3))
    # Beside each image: its class, its age, how unsure the answer was, and whether the slot is filled.
    assert two - without == 2 * (3 * 20 * 20 * width + 3 * 8 + 1)
