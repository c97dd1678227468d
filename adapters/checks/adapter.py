"""Checks of the contract of adapters, which a plugin author can run.

>>> from adapters import RobustBN
>>> check_shapes(RobustBN(momentum=0.2))  # check_adapter runs them all

Each check is a function of an adapter that returns None, or raises AssertionError with what was wrong and what the
contract asks for. Those that need a network are in `adapters.checks.model`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.base import Adapter, AnyAdapter, Moments, Site, Statistics
from adapters.checks import model
from adapters.checks.joint import check_joint
from adapters.checks.requirements import close, equal, refusal, require, require_pure, require_same_start, run_checks
from adapters.state.memory import Layout, State, join


class Step(NamedTuple):
    """One step of an adapter at a synthetic site."""

    case: str
    site: Site
    state: State
    moments: Moments
    statistics: Statistics
    new_state: State


def sites() -> list[Site]:
    """Return synthetic sites: a usual one, one with a mean far above its deviation, one channel that never varied."""
    generator = torch.Generator().manual_seed(1)
    normal, positive = torch.randn(4, 6, generator=generator), torch.rand(2, 6, generator=generator)
    flat = torch.zeros(1)
    return [
        Site("ordinary", normal[0], positive[0] + 0.2, normal[1], normal[2], 1e-5),
        Site("far", 1e3 + normal[3], 1e-2 * (positive[1] + 0.2), torch.ones(6), torch.zeros(6), 1e-3),
        Site("flat", flat, flat, torch.ones(1), flat, 1e-5),
    ]


def example_moments(site: Site) -> dict[str, Moments]:
    """Return moments of possible requests at a site, by description: the usual and the edge cases."""
    generator = torch.Generator().manual_seed(2)

    def draw(images: int, pixels: int, spread: float = 1.0) -> Moments:
        mean = site.mean + spread * torch.randn(images, site.channels, generator=generator)
        var = torch.rand(images, site.channels, generator=generator) + 0.1
        return Moments(mean, var if pixels > 1 else torch.zeros_like(var), pixels)

    constant = draw(1, 16)
    far = draw(5, 36)
    return {
        "n=5, 36 pixels": draw(5, 36),
        "n=1, 36 pixels": draw(1, 36),
        "n=1, a constant image": constant._replace(var=torch.zeros_like(constant.var)),
        "n=5, one pixel": draw(5, 1),
        "n=1, one pixel": draw(1, 1),
        "n=5, means far above the deviation": far._replace(mean=far.mean + 1e3, var=1e-4 * far.var),
        "n=64, far from the training data": draw(64, 9, spread=10.0),
        "n=2, two pixels": draw(2, 2),
    }


def walk(adapter: AnyAdapter) -> Iterator[Step]:
    """Run several successive steps at every synthetic site, so that later ones start from a state with a history."""
    for site in sites():
        state = adapter.init(site)
        for description, moments in example_moments(site).items():
            case = f"at a site '{site.name}' with {description}"
            try:
                # On copies, so that the states seen by the checks are as they should be even if step writes to them.
                statistics, new_state = adapter.step(*copy.deepcopy((site, state, moments)))
            except Exception as error:
                raise refusal("step", case, error) from error
            yield Step(case, site, state, moments, statistics, new_state)
            state = new_state


def check_docstring(adapter: Any) -> None:
    """The class has a docstring: the server shows it to users."""
    cls = type(adapter)
    # A dataclass without a docstring is given its signature as one.
    is_documented = (cls.__doc__ or "").strip() and not (cls.__doc__ or "").startswith(f"{cls.__name__}(")
    require(is_documented, f"{cls.__name__} has no docstring: say in one sentence what it does, then formula and paper")


def check_hyperparameters(adapter: Any) -> None:
    """Hyperparameters cannot change, and equal ones are equal keys: they are part of the key of a stream's state."""
    name = type(adapter).__name__
    require(dataclasses.is_dataclass(adapter), f"{name} must be a dataclass: decorate it with @dataclass(frozen=True)")
    copied = copy.deepcopy(adapter)
    for field in [*(field.name for field in dataclasses.fields(adapter)), "anything"]:
        try:
            setattr(copied, field, getattr(adapter, field, None))
        except AttributeError:
            continue
        raise AssertionError(f"{name}.{field} can be set: decorate the class with @dataclass(frozen=True)")
    require(copied == adapter, f"two {name} with equal hyperparameters must be equal: leave eq=True")
    try:
        is_same_hash = hash(copied) == hash(adapter)
    except TypeError as error:
        raise AssertionError(f"{name} must be hashable: frozen, eq=True, and fields that are hashable") from error
    require(is_same_hash, f"two {name} with equal hyperparameters must hash alike")


def check_init(adapter: AnyAdapter) -> None:
    """The initial state is always the same, and making it changes nothing."""
    for site in sites():
        first = require_same_start(partial(adapter.init, site), {f"the site '{site.name}'": _tensors(site)})
        require(all(_is_plain(field) for field in first), "a state is a NamedTuple of float32 tensors without gradient")


def check_purity(adapter: AnyAdapter) -> None:
    """A step is pure: it writes to no argument, draws no random numbers and stores nothing."""
    for step in walk(adapter):
        arguments = {"the site": _tensors(step.site), "the state": step.state, "the moments": step.moments[:2]}
        call = partial(adapter.step, step.site, step.state, step.moments)
        statistics, new_state = require_pure(call, arguments, f"{step.case}, step")
        is_repeatable = equal(statistics, step.statistics) and equal(new_state, step.new_state)
        require(is_repeatable, f"{step.case}, the same step gave another result: keep nothing and draw nothing")


def check_shapes(adapter: AnyAdapter) -> None:
    """Statistics are ``[C]`` or ``[n, C]``; the state keeps type and shapes of the initial one; all is float32."""
    for step in walk(adapter):
        channels, images = step.site.channels, step.moments.images
        shapes = {tuple(part.shape) for part in step.statistics}
        is_allowed = shapes in ({(channels,)}, {(images, channels)})
        require(
            is_allowed,
            f"{step.case}, mean and var must both be [{channels}] or [{images}, {channels}], not {sorted(shapes)}",
        )
        new = adapter.init(step.site)
        require(type(step.new_state) is type(new), f"{step.case}, step must return a {type(new).__name__} as init does")
        require(
            [field.shape for field in step.new_state] == [field.shape for field in new],
            f"{step.case}, the fields of the state must keep the shapes that init gave them: one row holds them",
        )
        is_plain = all(_is_plain(part) for part in (*step.statistics, *step.new_state))
        require(is_plain, f"{step.case}, all must be float32 tensors")


def check_finite(adapter: AnyAdapter) -> None:
    """Finite moments give finite statistics and states, and no variance is negative."""
    for step in walk(adapter):
        parts = (*step.statistics, *step.new_state)
        require(all(bool(part.isfinite().all()) for part in parts), f"{step.case}, not all values are finite")
        lowest = float(step.statistics.var.min())
        require(lowest >= 0, f"{step.case}, a variance is {lowest:g}: avoid differences of squares, or clamp at 0")


def check_vmap(adapter: AnyAdapter) -> None:
    """Steps of many streams at once under ``torch.func.vmap`` equal single steps: no branch reads a tensor."""
    for step in walk(adapter):
        states = [adapter.init(step.site), step.state, step.new_state]
        inputs, stacked = _three_requests(step.moments)
        function = _plain_step(adapter, step.site, step.moments.pixels)
        expected = [function(state, *values) for state, values in zip(states, inputs, strict=True)]
        fields = type(step.new_state)(*(torch.stack(field) for field in zip(*states, strict=True)))
        try:
            batched = torch.func.vmap(function)(fields, *stacked[:2])
        except Exception as error:
            raise AssertionError(
                f"{step.case}, step failed under torch.func.vmap: branch on shapes and hyperparameters only, never on "
                "values of tensors (torch.where is fine), and do not write in place"
            ) from error
        _require_equal(batched, expected, f"{step.case}, step under torch.func.vmap differs from one after another")
        if adapter.batched:
            statistics, new_state = adapter.step(step.site, fields, stacked)
            message = "step with leading axes differs from one after another: leave out batched = True, or fix it"
            _require_equal((*_expand(statistics, step, len(states)), *new_state), expected, f"{step.case}, {message}")


def check_queue(adapter: AnyAdapter) -> None:
    """The method ``queue`` returns the results of ``step`` for each request in turn."""
    for step in walk(adapter):
        inputs, stacked = _three_requests(step.moments)
        function, state, expected = _plain_step(adapter, step.site, step.moments.pixels), step.state, []
        for values in inputs:
            mean, var, *fields = function(state, *values)
            state = type(step.state)(*fields)
            expected.append(Statistics(mean, var).expand_to(values[0]))
        statistics, last_state = adapter.queue(step.site, step.state, stacked)
        message = f"{step.case}, queue differs from one step after another: leave it out, or fix it"
        _require_equal(Statistics(*statistics).expand_to(stacked.mean), expected, message)
        require(all(close(actual, value) for actual, value in zip(last_state, state, strict=True)), message)


def _three_requests(moments: Moments) -> tuple[list[tuple[Tensor, Tensor]], Moments]:
    """Return the moments of three requests that differ, one by one and stacked."""
    inputs = [(moments.mean + 0.1 * k, moments.var * (1 + k)) for k in range(3)]
    means, variances = (torch.stack(parts) for parts in zip(*inputs, strict=True))
    return inputs, Moments(means, variances, moments.pixels)


def _require_equal(batched: Sequence[Tensor], expected: Sequence[Sequence[Tensor]], message: str) -> None:
    columns = zip(*expected, strict=True)
    require(all(close(value, torch.stack(column)) for value, column in zip(batched, columns, strict=True)), message)


def _expand(statistics: Statistics, step: Step, streams: int) -> list[Tensor]:
    """Return statistics shared by all streams, such as those of a site, once for each stream."""
    return [part.expand(streams, *like.shape) for part, like in zip(statistics, step.statistics, strict=True)]


def check_packing(adapter: AnyAdapter) -> None:
    """A state survives being packed into one row and back."""
    history = list(walk(adapter))
    row = join([step.new_state for step in history])
    restored = Layout([adapter.init(step.site) for step in history]).split(row)
    is_same = all(equal(new, step.new_state) for new, step in zip(restored, history, strict=True))
    require(is_same and row.dtype == torch.float32, "a state must come back from its packed row exactly: float32 only")


def check_adapter(adapter: AnyAdapter) -> None:
    """Run every check on an adapter.

    Raises:
        AssertionError: the first check that fails; the message names it and says what the contract asks for.
    """
    run_checks(CHECKS, adapter, Adapter)


CHECKS: dict[str, Callable[[AnyAdapter], None]] = {
    "hyperparameters": check_hyperparameters,
    "init": check_init,
    "purity": check_purity,
    "shapes": check_shapes,
    "finite": check_finite,
    "vmap": check_vmap,
    "queue": check_queue,
    "packing": check_packing,
    "joint": check_joint,
    "engine": model.check_engine,
    **model.CHECKS,
    "docstring": check_docstring,
}
"""Every check by name: those of the adapter alone, those inside a network, and last its docstring."""


def _tensors(site: Site) -> tuple[Tensor, ...]:
    return site.mean, site.var, site.weight, site.bias


def _plain_step(adapter: AnyAdapter, site: Site, pixels: int) -> Callable[[Any, Tensor, Tensor], tuple[Tensor, ...]]:
    """Return the step at a site as a function of tensors to tensors: statistics, then the fields of the state."""

    def function(state: Any, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
        statistics, new_state = adapter.step(site, state, Moments(mean, var, pixels))
        return (*statistics, *new_state)

    return function


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32 and not value.requires_grad
