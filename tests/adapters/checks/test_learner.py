"""Every learner passes the battery; every kind of broken learner fails the check meant for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters.base import AnyLearner, Lesson, Network
from adapters.checks.learner import CHECKS, check_learner
from adapters.learners.core import Core
from adapters.learners.descent import DescentState
from adapters.learners.rotta import RoTTA
from adapters.learners.tent import Tent

LEARNERS = [
    Tent(),
    Tent(optimizer="sgd"),
    Core(),
    Core(normalize="classes", least_images=1),
    RoTTA(),
    RoTTA(capacity=7, update_every=50),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("learner", LEARNERS, ids=repr)
def test_every_learner_passes_every_check(learner: AnyLearner, check: str) -> None:
    CHECKS[check](learner)


@dataclass(frozen=True)
class WritesState(Tent):
    """Moves the parameters in place."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        after, row = Tent.learn(self, state, lesson, network)
        state.affine.copy_(after.affine)
        return state, row


@dataclass(frozen=True)
class WritesLesson(Tent):
    """Scales the logits where they stand."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        lesson.logits.mul_(0.5)
        return Tent.learn(self, state, lesson, network)


@dataclass(frozen=True)
class Random(Tent):
    """Draws from the global generator."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        after, row = Tent.learn(self, state, lesson, network)
        return after._replace(affine=after.affine + 1e-3 * torch.randn_like(after.affine)), row


LESSONS: list[int] = []


@dataclass(frozen=True)
class Counting(Tent):
    """Keeps something outside its state."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        LESSONS.append(1)
        after, row = Tent.learn(self, state, lesson, network)
        return after._replace(affine=after.affine + 1e-3 * len(LESSONS)), row


@dataclass(frozen=True)
class Whole(Tent):
    """Starts from ones, as if affine were the weights themselves."""

    def affine(self, state: DescentState) -> Tensor:
        return 1 + state.affine


@dataclass(frozen=True)
class Growing(Tent):
    """Remembers every request."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        after, row = Tent.learn(self, state, lesson, network)
        return after._replace(second=torch.cat([state.second, lesson.logits.new_zeros(1)])), row


@dataclass(frozen=True)
class NotANumber(Tent):
    """Divides by the deviation of the images."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        after, row = Tent.learn(self, state, lesson, network)
        spread = lesson.images.float().flatten(1).var(1).mean()
        return after._replace(affine=after.affine * (spread / spread)), row


@dataclass(frozen=True)
class Idle(Tent):
    """Does nothing."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        return state, lesson.after


@dataclass(frozen=True)
class RefusesOne(Tent):
    """Raises for a request of one image."""

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        if len(lesson.images) == 1:
            raise ValueError("expected more than one image")
        return Tent.learn(self, state, lesson, network)


@dataclass(frozen=True)
class OtherStates(Tent):
    """Answers with a normalization whose states do not fit."""

    def answering(self, adapter: Any) -> Any:
        from adapters import RobustBN

        return RobustBN()


BROKEN: list[tuple[AnyLearner, str, str]] = [
    (WritesState(), "purity", "wrote to the state"),
    (WritesLesson(), "purity", "wrote to the lesson"),
    (Random(), "purity", "global generator"),
    (Counting(), "purity", "taught something else"),
    (Whole(), "init", "all zeros"),
    (Growing(), "shapes", "keep shapes and types"),
    (NotANumber(), "finite", r"of n=1 images \(flat\), not all numbers are finite"),
    (Idle(), "learns", "nothing was learned"),
    (RefusesOne(), "shapes", r"any request of n >= 1 images, .* \(pixels\) it raised ValueError: expected more"),
    (OtherStates(), "answering", "in place of"),
]


@pytest.mark.parametrize(("learner", "check", "words"), BROKEN, ids=[f"{type(a).__name__}-{c}" for a, c, _ in BROKEN])
def test_a_broken_learner_fails_the_check_that_is_meant_for_it(learner: AnyLearner, check: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        CHECKS[check](learner)


def test_check_learner_runs_all_and_names_the_check_that_fails() -> None:
    # The last check but that of the docstring, so all others were passed.
    with pytest.raises(AssertionError, match=r"Idle\(.*fails the check 'learns': after a hundred"):
        check_learner(Idle())
