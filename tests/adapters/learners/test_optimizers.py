"""Functional steps against the optimizers of torch; gradients under every mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters.finite import all_finite
from adapters.learners.optimizers import OPTIMIZERS, Trace, adam, gradient, outside_inference_mode, zero_trace

THEIRS: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    lr=st.sampled_from([1e-3, 0.1]),
    scale=st.sampled_from([1e-6, 1.0, 1e3]),
    name=st.sampled_from(["adam", "sgd"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_forty_steps_are_those_of_torch(seed: int, lr: float, scale: float, name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(5, generator=generator, dtype=dtype)
    theirs, trace = values.clone().requires_grad_(), zero_trace(values)
    optimizer, way = THEIRS[name]([theirs], lr), 0.0
    for step in range(40):
        slope = scale * torch.randn(5, generator=generator, dtype=dtype)
        theirs.grad = slope.clone()
        optimizer.step()
        values, trace = OPTIMIZERS[name](values, slope, trace, lr)
        way += lr * float(slope.abs().max()) if name == "sgd" else lr
        # Values that went far and came back are as exact as where they were.
        torch.testing.assert_close(values, theirs.detach(), rtol=1e-6, atol=1e-6 * max(1.0, way))
        assert int(trace.steps) == step + 1
        assert values.dtype == trace.first.dtype == trace.second.dtype == dtype


def test_the_first_step_of_adam_is_the_learning_rate_in_every_direction() -> None:
    values = torch.zeros(3)
    moved, _ = adam(values, torch.tensor([1e-3, -5.0, 1e4]), zero_trace(values), 0.01)
    torch.testing.assert_close(moved, torch.tensor([-0.01, 0.01, -0.01]), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_inputs_are_not_written_to(name: str) -> None:
    given = (torch.ones(3), torch.full((3,), 2.0), *zero_trace(torch.ones(3)))
    before = [part.clone() for part in given]
    OPTIMIZERS[name](given[0], given[1], Trace(*given[2:]), 0.1)
    assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))


def _cube(x: Tensor) -> tuple[Tensor, str]:
    return (x**3).sum(), "beside"


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_gradient_in_every_mode(mode: Callable[[], torch.no_grad]) -> None:
    with mode():
        slope, beside = gradient(_cube, torch.tensor([1.0, -2.0]))
    assert slope.tolist() == [3.0, 12.0]
    assert beside == "beside"
    assert not slope.requires_grad


def test_outside_inference_mode_makes_tensors_usable_by_autograd() -> None:
    with torch.inference_mode():
        made = torch.ones(2)
        slope, _ = gradient(lambda x: ((outside_inference_mode(made) * x).square().sum(), None), made)
    assert slope.tolist() == [2.0, 2.0]
    kept = torch.ones(2)
    assert outside_inference_mode(kept) is kept


def test_a_loss_that_does_not_depend_on_the_values_has_no_slope() -> None:
    slope, _ = gradient(lambda _: (torch.ones(()), None), torch.ones(2))
    assert slope.tolist() == [0.0, 0.0]
    slope, _ = gradient(lambda x: (x[:0].sum(), None), torch.ones(2))
    assert slope.tolist() == [0.0, 0.0]


def test_all_finite() -> None:
    assert all_finite(torch.ones(2), torch.zeros(0))
    assert not all_finite(torch.ones(2), torch.tensor([1.0, torch.nan]))
    assert not all_finite(torch.tensor([torch.inf]))
