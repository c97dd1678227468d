"""Steps of gradient descent on a flat tensor, as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""The decay of Adam's two averages and its epsilon: the authors' choice everywhere."""
MOMENTUM = 0.9
"""The momentum of `sgd`."""


class Trace(NamedTuple):
    """The state of an optimizer."""

    first: Tensor  # [parameters], their moving average; of `sgd` their decaying sum
    second: Tensor  # [parameters], that of their squares; `sgd` leaves it as it is
    steps: Tensor  # [] int64 on the CPU, the number of steps taken


def zero_trace(values: Tensor) -> Trace:
    """Return the trace before the first step."""
    return Trace(torch.zeros_like(values), torch.zeros_like(values), torch.zeros((), dtype=torch.int64))


def adam(values: Tensor, slope: Tensor, trace: Trace, lr: float) -> tuple[Tensor, Trace]:
    """Return the values after one step of Adam without weight decay, and the new trace.

    ``m <- .9 m + .1 g``, ``v <- .999 v + .001 g^2``, ``values - lr m/(1 - .9^t) / (sqrt(v/(1 - .999^t)) + 1e-8)``.

    Paper: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 1.
    """
    steps = trace.steps + 1
    first = trace.first.lerp(slope, 1 - FIRST)
    second = trace.second * SECOND + (1 - SECOND) * slope.square()
    # In double precision: of 0.999 ** 1 a float32 leaves too little below one.
    age = steps.double()
    length = (second / (1 - SECOND**age)).sqrt() + TINY
    return values - lr * (first / (1 - FIRST**age)) / length, Trace(first, second, steps)


def sgd(values: Tensor, slope: Tensor, trace: Trace, lr: float) -> tuple[Tensor, Trace]:
    """Return the values after one step of descent with momentum: ``b <- .9 b + g``, ``values - lr b``."""
    first = MOMENTUM * trace.first + slope
    return values - lr * first, Trace(first, trace.second, trace.steps + 1)


OPTIMIZERS: dict[str, Callable[[Tensor, Tensor, Trace, float], tuple[Tensor, Trace]]] = {"adam": adam, "sgd": sgd}
"""The optimizers by name."""


def gradient(function: Callable[[Tensor], tuple[Tensor, Any]], values: Tensor) -> tuple[Tensor, Any]:
    """Return the gradient of a loss at ``values``, and the second output of ``function``.

    ``function`` maps values to the loss, a scalar, and any second output. Works under ``no_grad``, and under
    ``inference_mode`` if ``function`` uses no tensors made there, see `outside_inference_mode`. Zero where the loss
    does not depend on ``values``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = values.detach().clone().requires_grad_()
        loss, extra = function(leaf)
        if not loss.requires_grad:
            return torch.zeros_like(values), extra
        (slope,) = torch.autograd.grad(loss, leaf, materialize_grads=True)
    return slope, extra


def outside_inference_mode(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy of one made under ``inference_mode``, which autograd cannot save for backward."""
    with torch.inference_mode(False):
        return tensor.clone() if tensor.is_inference() else tensor
