"""Every corrector passes the battery; every kind of broken corrector fails the check meant for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from adapters.base import AnyCorrector, Corrector
from adapters.checks.corrector import CHECKS, check_corrector
from adapters.correctors.cofa import Cofa
from adapters.correctors.lame import Lame
from adapters.correctors.temperature import Temperature

plain = partial(Lame, affinity="knn", memory=0, when="always")

VARIANTS: list[AnyCorrector] = [
    Temperature(),
    Temperature(temperature=1e-300),
    Temperature(temperature=20),
    Cofa(),
    Lame(),
    plain(),
    plain(affinity="rbf"),
    plain(affinity="rbf", neighbours=1),
    plain(affinity="linear", weight=1000.0),
    plain(neighbours=1000, weight=1000.0, iterations=3),
    plain(memory=7),
    plain(memory=50, affinity="rbf"),
    plain(memory=1, affinity="linear", weight=0.0),
    plain(when="correlated"),
    plain(when="correlated", memory=20, iterations=20),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("corrector", VARIANTS, ids=repr)
def test_every_corrector_passes_every_check(corrector: AnyCorrector, check: str) -> None:
    CHECKS[check](corrector)


class Kept(NamedTuple):
    mean: Tensor


@dataclass(frozen=True)
class Base(Corrector[Any]):
    """A correct corrector, to be broken in one way at a time: answers drawn toward the mean logits of the stream."""

    weight: float = 0.25

    def init(self, features: int, classes: int) -> Any:
        return Kept(torch.zeros(classes))

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        mean = state.mean + self.weight * (logits.mean(0) - state.mean)
        return torch.lerp(logits, mean, self.weight).softmax(-1), Kept(mean)


@dataclass(frozen=True)
class Undocumented(Base):
    pass


Undocumented.__doc__ = None


@dataclass(unsafe_hash=True)
class Thawed(Corrector[Any]):
    """Its hyperparameters can be set."""

    weight: float = 0.25

    init = Base.init
    correct = Base.correct


ZEROS = torch.zeros(100)


@dataclass(frozen=True)
class SharedStart(Base):
    """Starts all streams from one tensor."""

    def init(self, features: int, classes: int) -> Any:
        return Kept(ZEROS[:classes])


@dataclass(frozen=True)
class WritesState(Base):
    """Moves the state in place."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        state.mean.lerp_(logits.mean(0), self.weight)
        return torch.lerp(logits, state.mean, self.weight).softmax(-1), Kept(state.mean.clone())


@dataclass(frozen=True)
class WritesLogits(Base):
    """Centres the logits where they stand."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        logits -= logits.mean(-1, keepdim=True) + 1.0
        return Base.correct(self, state, features, logits)


@dataclass(frozen=True)
class Drawing(Base):
    """Draws from the global generator."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        return Base.correct(self, state, features, logits + torch.rand(()))


@dataclass(frozen=True)
class KeepsTheRequest(Base):
    """Remembers a view of the request's logits."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        return Base.correct(self, state, features, logits)[0], Kept(logits[-1])


@dataclass(frozen=True)
class KeepsTooMuch(Base):
    """Remembers a row of something larger."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        answer, after = Base.correct(self, state, features, logits)
        return answer, Kept(torch.stack([after.mean, after.mean])[0])


@dataclass(frozen=True)
class Unnormalized(Base):
    """Answers with logits."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        return logits.clone(), Base.correct(self, state, features, logits)[1]


@dataclass(frozen=True)
class Wide(Base):
    """Answers in double precision."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        answer, after = Base.correct(self, state, features, logits)
        return answer.double(), after


@dataclass(frozen=True)
class Growing(Base):
    """Remembers one row per image."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        return logits.softmax(-1), Kept(logits.clone())


@dataclass(frozen=True)
class Overflowing(Base):
    """Remembers squares, which grow too large for a float."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        return logits.softmax(-1), Kept(logits.square().mean(0))


@dataclass(frozen=True)
class RefusesOne(Base):
    """Raises for a request of one image."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        if len(logits) == 1:
            raise ValueError("expected more than one image")
        return Base.correct(self, state, features, logits)


SEEN: dict[str, Tensor] = {}


@dataclass(frozen=True)
class KeepsElsewhere(Base):
    """Keeps the last new logits in a place of its own, where another stream finds them."""

    def correct(self, state: Any, features: Tensor, logits: Tensor) -> tuple[Tensor, Any]:
        before = SEEN.get("logits", logits)
        if before.shape[-1] != logits.shape[-1]:
            before = logits
        SEEN["logits"] = logits.clone()
        return (logits + before[0]).softmax(-1), Base.correct(self, state, features, logits)[1]


BROKEN: list[tuple[AnyCorrector, str, str]] = [
    (Undocumented(), "docstring", "no docstring"),
    (Thawed(), "hyperparameters", "can be set"),
    (SharedStart(), "init", "must not share memory"),
    (WritesState(), "purity", "wrote to the state"),
    (WritesLogits(), "purity", "wrote to the logits"),
    (Drawing(), "purity", "global generator"),
    (KeepsTheRequest(), "memory", "shares memory with what was given"),
    (KeepsTooMuch(), "memory", "a view of something larger"),
    (Unnormalized(), "shapes", "must be probabilities"),
    (Wide(), "shapes", "must be float32"),
    (Growing(), "shapes", "keep the shapes"),
    (Overflowing(), "finite", "beyond all measure, not all values are finite"),
    (RefusesOne(), "shapes", "any request of n >= 1 images, .* it raised ValueError: expected more than one"),
    (KeepsElsewhere(), "stream", "keep all in the state"),
]


@pytest.mark.parametrize(("corrector", "check", "words"), BROKEN, ids=[type(c).__name__ for c, _, _ in BROKEN])
def test_a_broken_corrector_fails_the_check_that_is_meant_for_it(
    corrector: AnyCorrector, check: str, words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        CHECKS[check](corrector)


def test_the_corrector_that_is_broken_above_is_sound_by_itself() -> None:
    # Otherwise the tests above might fail for another reason than the one they name.
    check_corrector(Base())


def test_check_corrector_names_the_check_that_fails() -> None:
    with pytest.raises(AssertionError, match=r"Overflowing\(weight=0.25\) fails the check 'finite': with a small head"):
        check_corrector(Overflowing())
