"""The assertions of all checks: equal and close tensors, pure functions, constant initial states."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapters.composite import explain_kind
from adapters.registry import KINDS

Result = TypeVar("Result")
Part = TypeVar("Part")


def require(condition: object, message: str) -> None:
    """Raise AssertionError with ``message`` unless the condition holds; unlike ``assert`` it is never compiled out."""
    if not condition:
        raise AssertionError(message)


def refusal(method: str, case: str, error: Exception) -> AssertionError:
    """Return the error for a method that raised ``error`` in a case that it must accept."""
    raised = f"it raised {type(error).__name__}: {error}"
    return AssertionError(f"{method} must accept any request of n >= 1 images, but {case} {raised}")


def equal(a: Iterable[Tensor], b: Iterable[Tensor]) -> bool:
    """Return true if two sequences of tensors are bit-identical; NaN equals NaN."""
    first, second = list(a), list(b)
    pairs = zip(first, second, strict=False)
    is_equal = all(x.shape == y.shape and bool(((x == y) | (x.isnan() & y.isnan())).all()) for x, y in pairs)
    return is_equal and len(first) == len(second)


def close(a: Tensor, b: Tensor) -> bool:
    """Return true if two tensors agree to 1e-5, absolutely up to 1 and relative to the largest value beyond."""
    if not b.is_floating_point():
        return torch.equal(a, b)
    scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
    return a.shape == b.shape and bool(((a - b).abs() <= 1e-5 * scale).all())


def require_pure(call: Callable[[], Result], arguments: Mapping[str, Iterable[Tensor]], name: str) -> Result:
    """Return the result of a call; require that it writes to none of its arguments and draws nothing.

    ``arguments`` are their tensors, each under what messages call it; ``name`` is what they call the function.
    """
    originals, rng = copy.deepcopy(dict(arguments)), torch.get_rng_state()
    result = call()
    for argument, tensors in arguments.items():
        require(equal(tensors, originals[argument]), f"{name} wrote to {argument}: return new tensors instead")
    require(torch.equal(rng, torch.get_rng_state()), f"{name} used torch's global generator: seed one of your own")
    return result


def require_same_start(init: Callable[[], Any], arguments: Mapping[str, Iterable[Tensor]]) -> Any:
    """Return the state of a new stream; require that ``init`` is pure and gives the same at every call."""
    first = require_pure(init, arguments, "init")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        require(equal(first, init()), "init must give the same at every call, whatever ran before")
    return first


_USES = {kind: f"use check_{name}" for name, kind in KINDS.items()}


def run_checks(checks: Mapping[str, Callable[[Part], None]], part: Part, kind: type) -> None:
    """Run every check on a part of a strategy, of that kind; the first that fails is named in the error."""
    require(isinstance(part, kind), explain_kind(part, kind, _USES))
    for name, check in checks.items():
        try:
            check(part)
        except AssertionError as error:
            raise AssertionError(f"{part!r} fails the check '{name}': {error}") from error
