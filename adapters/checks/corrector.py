"""Checks of the contract of correctors, which a plugin author can run.

>>> from adapters import Temperature
>>> check_corrector(Temperature(temperature=2.0))

Each check is a function of a corrector that returns None, or raises AssertionError with what was wrong and what the
contract asks for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyCorrector, Corrector
from adapters.checks.adapter import check_docstring, check_hyperparameters
from adapters.checks.requirements import close, equal, refusal, require, require_pure, require_same_start, run_checks

SIZES = {"a small head": (6, 4), "a wide head": (3, 40), "two classes": (5, 2), "one feature and one class": (1, 1)}
"""The features and classes of the synthetic networks."""


class Correction(NamedTuple):
    """One request of a stream, corrected."""

    case: str
    size: tuple[int, int]  # features and classes
    state: Any
    features: Tensor
    logits: Tensor
    probabilities: Tensor
    new_state: Any


def requests(features: int, classes: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return features and logits of successive requests, by description: the usual and the edge cases."""
    generator = torch.Generator().manual_seed(4)

    def draw(images: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
        values = torch.randn(images, features, generator=generator)
        return values, spread * torch.randn(images, classes, generator=generator)

    typical, large = draw(5), draw(24)
    likeness, scores = draw(6)
    certain = 80.0 * torch.nn.functional.one_hot(torch.zeros(8, dtype=torch.long), classes)
    return {
        "n=1": draw(1),
        "n=5": typical,
        "n=24": large,
        "n=2": draw(2),
        "n=6, all images the same": (likeness[:1].repeat(6, 1), scores[:1].repeat(6, 1)),
        "n=6, all features the same": (likeness[:1].repeat(6, 1), scores),
        "n=10, each image twice": (typical[0].repeat(2, 1), typical[1].repeat(2, 1)),
        "n=4, features of zero": (torch.zeros(4, features), draw(4)[1]),
        "n=1, features of zero": (torch.zeros(1, features), draw(1)[1]),
        "n=8, certain of one class": (draw(8)[0], certain),
        "n=3, logits beyond all measure": draw(3, spread=1e20),
        "n=5, features beyond all measure": (1e20 * draw(5)[0], draw(5)[1]),
        "n=24, all of one likeness": (large[0] * 1e-3 + likeness[:1], large[1]),
        "n=1, at last": draw(1),
    }


def walk(corrector: AnyCorrector) -> Iterator[Correction]:
    """Run the requests of one stream in order for every synthetic network, so that later ones meet a state."""
    for network, size in SIZES.items():
        state = corrector.init(*_sizes(corrector, size))
        for description, (features, logits) in requests(*size).items():
            inputs = features if corrector.features else features.new_empty(len(features), 0)
            case = f"with {network} and a request of {description}"
            try:
                # On copies, so that the states seen by the checks are as they should be even if correct writes to them.
                answer, new_state = corrector.correct(*copy.deepcopy((state, inputs, logits)))
            except Exception as error:
                raise refusal("correct", case, error) from error
            yield Correction(case, size, state, inputs, logits, answer, new_state)
            state = new_state


def check_init(corrector: AnyCorrector) -> None:
    """The initial state is always the same, in new tensors, and making it draws no random numbers."""
    for size in SIZES.values():
        init = partial(corrector.init, *_sizes(corrector, size))
        first = require_same_start(init, {})
        require(not _shares_memory(first, init()), "init gave the same tensors twice: streams must not share memory")


def check_purity(corrector: AnyCorrector) -> None:
    """A correction is pure: it writes to no argument, draws no random numbers and stores nothing."""
    for step in walk(corrector):
        arguments = {"the state": step.state, "the features": [step.features], "the logits": [step.logits]}
        call = partial(corrector.correct, step.state, step.features, step.logits)
        answer, new_state = require_pure(call, arguments, f"{step.case}, correct")
        is_repeatable = equal([answer], [step.probabilities]) and equal(new_state, step.new_state)
        require(is_repeatable, f"{step.case}, the same request got another answer: keep nothing, draw nothing")


def check_memory(corrector: AnyCorrector) -> None:
    """The results share no memory with the arguments, and the state is no view of a larger tensor."""
    for step in walk(corrector):
        arguments = (*step.state, step.features, step.logits)
        answer, new_state = corrector.correct(step.state, step.features, step.logits)
        shares_memory = _shares_memory((answer, *new_state), arguments) or _shares_memory((answer,), new_state)
        require(not shares_memory, f"{step.case}, what is returned shares memory with what was given: clone it")
        is_view = any(field.untyped_storage().nbytes() > field.numel() * field.element_size() for field in new_state)
        require(not is_view, f"{step.case}, the state is a view of something larger, which it keeps alive: clone it")


def check_shapes(corrector: AnyCorrector) -> None:
    """Answers are float32 probabilities ``[n, classes]``; the state keeps the types and shapes of the initial one."""
    for step in walk(corrector):
        answer, initial = step.probabilities, corrector.init(*_sizes(corrector, step.size))
        require(
            answer.shape == step.logits.shape and answer.dtype == torch.float32 and not answer.requires_grad,
            f"{step.case}, the answer must be float32 {list(step.logits.shape)}, "
            f"not {answer.dtype} {list(answer.shape)}",
        )
        is_distribution = bool((answer >= 0).all()) and close(answer.sum(-1), torch.ones(len(answer)))
        require(is_distribution, f"{step.case}, each row must be probabilities: none negative, of sum 1")
        kind = type(initial)
        require(type(step.new_state) is kind, f"{step.case}, correct must return a {kind.__name__} as init does")
        is_preserved = [(f.shape, f.dtype) for f in step.new_state] == [(f.shape, f.dtype) for f in initial]
        require(is_preserved, f"{step.case}, the fields of the state must keep the shapes and types of init's")


def check_finite(corrector: AnyCorrector) -> None:
    """Finite features and logits give finite answers and states."""
    for step in walk(corrector):
        is_finite = all(bool(part.isfinite().all()) for part in (step.probabilities, *step.new_state))
        require(is_finite, f"{step.case}, not all values are finite")


def check_stream(corrector: AnyCorrector) -> None:
    """A stream is its state: saving and restoring it after every request, next to another stream, changes nothing."""
    size, state, other_state = (0, 0), None, None
    for step in walk(corrector):
        if step.size != size:
            size = step.size
            state, other_state = (corrector.init(*_sizes(corrector, size)) for _ in range(2))
        answer, new_state = copy.deepcopy(corrector).correct(state, step.features, step.logits)
        is_equal = equal([answer], [step.probabilities]) and equal(new_state, step.new_state)
        require(is_equal, f"{step.case}, a stream read back beside another got another answer: keep all in the state")
        state = type(new_state)(*(torch.from_numpy(field.numpy().copy()) for field in new_state))
        _, other_state = corrector.correct(other_state, step.features.flip(0), step.logits.flip(0))


def check_corrector(corrector: AnyCorrector) -> None:
    """Run every check on a corrector.

    Raises:
        AssertionError: the first check that fails; the message names it and says what the contract asks for.
    """
    run_checks(CHECKS, corrector, Corrector)


CHECKS: dict[str, Callable[[AnyCorrector], None]] = {
    "hyperparameters": check_hyperparameters,
    "init": check_init,
    "purity": check_purity,
    "memory": check_memory,
    "shapes": check_shapes,
    "finite": check_finite,
    "stream": check_stream,
    "docstring": check_docstring,
}
"""Every check of a corrector by name."""


def _sizes(corrector: AnyCorrector, size: tuple[int, int]) -> tuple[int, int]:
    """Return the arguments of `init`: 0 features where the corrector reads none."""
    return (size[0] if corrector.features else 0, size[1])


def _shares_memory(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Return true if a tensor of the first tuple shares memory with one of the second; empty tensors share none."""
    addresses = {part.untyped_storage().data_ptr() for part in second if part.numel()}
    return any(part.untyped_storage().data_ptr() in addresses for part in first if part.numel())
