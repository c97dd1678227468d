"""What every corrector must satisfy, as functions that a plugin author can run.

>>> from adapters.checks import check_corrector
>>> check_corrector(MyCorrector(weight=0.5))

Each check is a function of a corrector that returns None, or raises AssertionError with what was wrong and what the
contract asks for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyCorrector
from adapters.checks import adapter
from adapters.checks.model import close, require, same

SIZES = {"a small head": (6, 4), "a wide head": (3, 40), "two classes": (5, 2), "one feature and one class": (1, 1)}
"""Features and classes of the synthetic networks."""


class Correction(NamedTuple):
    """One request of a stream, corrected."""

    where: str
    size: tuple[int, int]  # features and classes
    state: Any
    features: Tensor
    logits: Tensor
    probabilities: Tensor
    after: Any


def requests(features: int, classes: int) -> dict[str, tuple[Tensor, Tensor]]:
    """What the requests of a stream may hold, in order, by description: the ordinary and every edge of it."""
    generator = torch.Generator().manual_seed(4)

    def draw(images: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
        drawn = torch.randn(images, features, generator=generator)
        return drawn, spread * torch.randn(images, classes, generator=generator)

    ordinary, many = draw(5), draw(24)
    likeness, scores = draw(6)
    certain = 80.0 * torch.nn.functional.one_hot(torch.zeros(8, dtype=torch.long), classes)
    return {
        "n=1": draw(1),
        "n=5": ordinary,
        "n=24": many,
        "n=2": draw(2),
        "n=6, all images the same": (likeness[:1].repeat(6, 1), scores[:1].repeat(6, 1)),
        "n=6, all features the same": (likeness[:1].repeat(6, 1), scores),
        "n=10, each image twice": (ordinary[0].repeat(2, 1), ordinary[1].repeat(2, 1)),
        "n=4, features of zero": (torch.zeros(4, features), draw(4)[1]),
        "n=1, features of zero": (torch.zeros(1, features), draw(1)[1]),
        "n=8, certain of one class": (draw(8)[0], certain),
        "n=3, logits beyond all measure": draw(3, spread=1e20),
        "n=5, features beyond all measure": (1e20 * draw(5)[0], draw(5)[1]),
        "n=24, all of one likeness": (many[0] * 1e-3 + likeness[:1], many[1]),
        "n=1, at last": draw(1),
    }


def walk(corrector: AnyCorrector) -> Iterator[Correction]:
    """The requests of one stream in order for every synthetic network, so that later ones meet a state."""
    for network, size in SIZES.items():
        state = corrector.init(*_asked(corrector, size))
        for shown, (features, logits) in requests(*size).items():
            given = features if _reads(corrector) else features.new_empty(len(features), 0)
            where = f"with {network} and a request of {shown}"
            try:
                # On copies, so that the states seen by the checks are as they should be even if correct writes to them.
                answer, after = corrector.correct(*copy.deepcopy((state, given, logits)))
            except Exception as error:
                raise AssertionError(
                    f"correct must accept any request of n >= 1 images, but {where} it raised"
                ) from error
            yield Correction(where, size, state, given, logits, answer, after)
            state = after


def check_docstring(corrector: AnyCorrector) -> None:
    """The class says what it does: the server shows its docstring to users."""
    described: Any = corrector
    adapter.check_docstring(described)


def check_hyperparameters(corrector: AnyCorrector) -> None:
    """Hyperparameters cannot change, and equal ones are equal keys: they are part of the key of a stream's state."""
    keyed: Any = corrector
    adapter.check_hyperparameters(keyed)


def check_init(corrector: AnyCorrector) -> None:
    """A new stream always starts alike, from tensors of its own, and starting one draws nothing."""
    for size in SIZES.values():
        random = torch.get_rng_state()
        first = corrector.init(*_asked(corrector, size))
        require(torch.equal(random, torch.get_rng_state()), "init used torch's global generator: seed one of your own")
        second = corrector.init(*_asked(corrector, size))
        require(same(first, second), "init must give the same at every call, whatever ran before")
        require(not _shares(first, second), "init gave the same tensors twice: streams must not share memory")


def check_purity(corrector: AnyCorrector) -> None:
    """A correction writes to none of its arguments, draws nothing and keeps nothing."""
    for step in walk(corrector):
        given = (step.state, step.features, step.logits)
        before, random = copy.deepcopy(given), torch.get_rng_state()
        answer, after = corrector.correct(*given)
        for name, now, then in (
            ("the state", step.state, before[0]),
            ("the features", [step.features], [before[1]]),
            ("the logits", [step.logits], [before[2]]),
        ):
            require(same(now, then), f"{step.where}, correct wrote to {name}: return new tensors instead")
        require(torch.equal(random, torch.get_rng_state()), f"{step.where}, correct used torch's global generator")
        again = same([answer], [step.probabilities]) and same(after, step.after)
        require(again, f"{step.where}, the same request got another answer: correct must keep nothing and draw nothing")


def check_memory(corrector: AnyCorrector) -> None:
    """What is returned shares no memory with what was given, and keeps no more of it than the state needs."""
    for step in walk(corrector):
        given = (*step.state, step.features, step.logits)
        answer, after = corrector.correct(step.state, step.features, step.logits)
        shared = _shares((answer, *after), given) or _shares((answer,), after)
        require(not shared, f"{step.where}, what is returned shares memory with what was given: clone it")
        spare = any(field.untyped_storage().nbytes() > field.numel() * field.element_size() for field in after)
        require(not spare, f"{step.where}, the state is a view of something larger, which it keeps alive: clone it")


def check_shapes(corrector: AnyCorrector) -> None:
    """Answers are float32 probabilities ``[n, classes]``; the state keeps the types and shapes of the initial one."""
    for step in walk(corrector):
        answer, new = step.probabilities, corrector.init(*_asked(corrector, step.size))
        require(
            answer.shape == step.logits.shape and answer.dtype == torch.float32 and not answer.requires_grad,
            f"{step.where}, the answer must be float32 {list(step.logits.shape)}, "
            f"not {answer.dtype} {list(answer.shape)}",
        )
        sums = bool((answer >= 0).all()) and close(answer.sum(-1), torch.ones(len(answer)))
        require(sums, f"{step.where}, each row must be probabilities: none negative, of sum 1")
        require(type(step.after) is type(new), f"{step.where}, correct must return a {type(new).__name__} as init does")
        kept = [(f.shape, f.dtype) for f in step.after] == [(f.shape, f.dtype) for f in new]
        require(kept, f"{step.where}, the fields of the state must keep the shapes and types that init gave them")


def check_finite(corrector: AnyCorrector) -> None:
    """Finite features and logits give finite answers and states."""
    for step in walk(corrector):
        finite = all(bool(part.isfinite().all()) for part in (step.probabilities, *step.after))
        require(finite, f"{step.where}, not all values are finite")


def check_stream(corrector: AnyCorrector) -> None:
    """A stream is its state: one stored after every request, and read back beside another stream, goes on alike."""
    size, state, other = (0, 0), None, None
    for step in walk(corrector):
        if step.size != size:
            size = step.size
            state, other = (corrector.init(*_asked(corrector, size)) for _ in range(2))
        answer, after = copy.deepcopy(corrector).correct(state, step.features, step.logits)
        alike = same([answer], [step.probabilities]) and same(after, step.after)
        require(alike, f"{step.where}, a stream read back beside another got another answer: keep all in the state")
        state = type(after)(*(torch.from_numpy(field.numpy().copy()) for field in after))
        _, other = corrector.correct(other, step.features.flip(0), step.logits.flip(0))


def check_corrector(corrector: AnyCorrector) -> None:
    """Run every check on a corrector.

    Raises:
        AssertionError: the first check that fails; the message names it and says what the contract asks for.
    """
    for name, check in CHECKS.items():
        try:
            check(corrector)
        except AssertionError as error:
            raise AssertionError(f"{corrector!r} fails the check '{name}': {error}") from error


CHECKS: dict[str, Callable[[AnyCorrector], None]] = {
    "docstring": check_docstring,
    "hyperparameters": check_hyperparameters,
    "init": check_init,
    "purity": check_purity,
    "memory": check_memory,
    "shapes": check_shapes,
    "finite": check_finite,
    "stream": check_stream,
}
"""Every check of a corrector by name."""


def _reads(corrector: AnyCorrector) -> bool:
    return getattr(corrector, "features", False)


def _asked(corrector: AnyCorrector, size: tuple[int, int]) -> tuple[int, int]:
    """What `init` is told: no features where the corrector reads none."""
    return (size[0] if _reads(corrector) else 0, size[1])


def _shares(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    """Whether any tensor of one lies in the same memory as one of the others; empty ones lie nowhere."""
    kept = {part.untyped_storage().data_ptr() for part in others if part.numel()}
    return any(part.untyped_storage().data_ptr() in kept for part in some if part.numel())
