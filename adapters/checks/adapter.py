"""What every strategy must satisfy, as functions that a plugin author can run.

>>> from adapters.checks import check_adapter
>>> check_adapter(MyAdapter(momentum=0.2))

Each check is a function of an adapter that returns None, or raises AssertionError with what was wrong and what the
contract asks for. Those that need a network are in `adapters.checks.model`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Moments, Site, Statistics
from adapters.checks import model
from adapters.checks.model import close, require, same
from adapters.state.memory import Layout, State, join


class Step(NamedTuple):
    """One step of an adapter at a synthetic site."""

    where: str
    site: Site
    state: State
    seen: Moments
    used: Statistics
    after: State


def sites() -> list[Site]:
    """Synthetic sites: an ordinary one, one with a mean far above its deviation, one channel that never varied."""
    generator = torch.Generator().manual_seed(1)
    normal, positive = torch.randn(4, 6, generator=generator), torch.rand(2, 6, generator=generator)
    flat = torch.zeros(1)
    return [
        Site("ordinary", normal[0], positive[0] + 0.2, normal[1], normal[2], 1e-5),
        Site("far", 1e3 + normal[3], 1e-2 * (positive[1] + 0.2), torch.ones(6), torch.zeros(6), 1e-3),
        Site("flat", flat, flat, torch.ones(1), flat, 1e-5),
    ]


def example_moments(site: Site) -> dict[str, Moments]:
    """What requests may show at a site, by description: the ordinary and every edge of it."""
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
    """Several steps in a row at every synthetic site, so that later steps start from a state with a history."""
    for site in sites():
        state = adapter.init(site)
        for shown, seen in example_moments(site).items():
            where = f"at a site '{site.name}' with {shown}"
            try:
                # On copies, so that the states seen by the checks are as they should be even if step writes to them.
                used, after = adapter.step(*copy.deepcopy((site, state, seen)))
            except Exception as error:
                raise AssertionError(f"step must accept any request of n >= 1 images, but {where} it raised") from error
            yield Step(where, site, state, seen, used, after)
            state = after


def check_docstring(adapter: AnyAdapter) -> None:
    """The class says what it does: the server shows its docstring to users."""
    cls = type(adapter)
    # A dataclass without a docstring is given its signature as one.
    described = (cls.__doc__ or "").strip() and not (cls.__doc__ or "").startswith(f"{cls.__name__}(")
    require(described, f"{cls.__name__} has no docstring: say in one sentence what it does, then formula and paper")


def check_hyperparameters(adapter: AnyAdapter) -> None:
    """Hyperparameters cannot change, and equal ones are equal keys: they are part of the key of a stream's state."""
    name = type(adapter).__name__
    require(dataclasses.is_dataclass(adapter), f"{name} must be a dataclass: decorate it with @dataclass(frozen=True)")
    twin = copy.deepcopy(adapter)
    for field in [*(field.name for field in dataclasses.fields(adapter)), "anything"]:  # type: ignore[arg-type]
        try:
            setattr(twin, field, getattr(adapter, field, None))
        except AttributeError:
            continue
        raise AssertionError(f"{name}.{field} can be set: decorate the class with @dataclass(frozen=True)")
    require(twin == adapter, f"two {name} with equal hyperparameters must be equal: leave eq=True")
    try:
        equal = hash(twin) == hash(adapter)
    except TypeError as error:
        raise AssertionError(f"{name} must be hashable: frozen, eq=True, and fields that are hashable") from error
    require(equal, f"two {name} with equal hyperparameters must hash alike")


def check_init(adapter: AnyAdapter) -> None:
    """A new stream always starts alike, and starting one changes nothing."""
    for site in sites():
        before, random = copy.deepcopy(site), torch.get_rng_state()
        first = adapter.init(site)
        require(same(_of(site), _of(before)), f"init wrote to the site '{site.name}': clone before you change")
        require(torch.equal(random, torch.get_rng_state()), "init used torch's global generator: seed one of your own")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            require(same(first, adapter.init(site)), "init must give the same at every call, whatever ran before")
        require(all(_is_plain(field) for field in first), "a state is a NamedTuple of float32 tensors without gradient")


def check_purity(adapter: AnyAdapter) -> None:
    """A step writes to none of its arguments, draws nothing and keeps nothing."""
    for step in walk(adapter):
        given = (step.site, step.state, step.seen)
        before, random = copy.deepcopy(given), torch.get_rng_state()
        used, after = adapter.step(*given)
        for name, now, then in (
            ("the site", _of(step.site), _of(before[0])),
            ("the state", step.state, before[1]),
            ("the moments", step.seen[:2], before[2][:2]),
        ):
            require(same(now, then), f"{step.where}, step wrote to {name}: return new tensors instead")
        require(torch.equal(random, torch.get_rng_state()), f"{step.where}, step used torch's global generator")
        again = same(used, step.used) and same(after, step.after)
        require(again, f"{step.where}, the same step gave another result: step must keep nothing and draw nothing")


def check_shapes(adapter: AnyAdapter) -> None:
    """Statistics are ``[C]`` or ``[n, C]``; the state keeps type and shapes of the initial one; all is float32."""
    for step in walk(adapter):
        channels, images = step.site.channels, step.seen.images
        shapes = {tuple(part.shape) for part in step.used}
        allowed = shapes in ({(channels,)}, {(images, channels)})
        require(
            allowed,
            f"{step.where}, mean and var must both be [{channels}] or [{images}, {channels}], not {sorted(shapes)}",
        )
        new = adapter.init(step.site)
        require(type(step.after) is type(new), f"{step.where}, step must return a {type(new).__name__} as init does")
        require(
            [field.shape for field in step.after] == [field.shape for field in new],
            f"{step.where}, the fields of the state must keep the shapes that init gave them: one row holds them",
        )
        require(
            all(_is_plain(part) for part in (*step.used, *step.after)), f"{step.where}, all must be float32 tensors"
        )


def check_finite(adapter: AnyAdapter) -> None:
    """Finite moments give finite statistics and states, and no variance is negative."""
    for step in walk(adapter):
        parts = (*step.used, *step.after)
        require(all(bool(part.isfinite().all()) for part in parts), f"{step.where}, not all values are finite")
        lowest = float(step.used.var.min())
        require(lowest >= 0, f"{step.where}, a variance is {lowest:g}: avoid differences of squares, or clamp at 0")


def check_vmap(adapter: AnyAdapter) -> None:
    """Steps of many streams at once under ``torch.func.vmap`` equal one after another: no branch reads a tensor."""
    for step in walk(adapter):
        states = [adapter.init(step.site), step.state, step.after]
        shown = [(step.seen.mean + 0.1 * k, step.seen.var * (1 + k)) for k in range(3)]

        one = _plain_step(adapter, step.site, step.seen.pixels)
        loop = [one(state, *seen) for state, seen in zip(states, shown, strict=True)]
        fields = type(step.after)(*(torch.stack(field) for field in zip(*states, strict=True)))
        try:
            batched = torch.func.vmap(one)(fields, *(torch.stack(part) for part in zip(*shown, strict=True)))
        except Exception as error:
            raise AssertionError(
                f"{step.where}, step failed under torch.func.vmap: branch on shapes and hyperparameters only, never on "
                "values of tensors (torch.where is fine), and do not write in place"
            ) from error
        _require_alike(batched, loop, f"{step.where}, step under torch.func.vmap differs from one after another")
        if getattr(adapter, "batched", False):
            stacked = Moments(
                torch.stack([mean for mean, _ in shown]), torch.stack([var for _, var in shown]), step.seen.pixels
            )
            used, after = adapter.step(step.site, fields, stacked)
            words = "step with leading axes differs from one after another: leave out batched = True, or mend it"
            _require_alike((*_each(used, step, len(states)), *after), loop, f"{step.where}, {words}")


def check_queue(adapter: AnyAdapter) -> None:
    """The method ``queue``, where there is one, gives what step gives request by request."""
    queue = getattr(adapter, "queue", None)
    if queue is None:
        return
    for step in walk(adapter):
        shown = [(step.seen.mean + 0.1 * k, step.seen.var * (1 + k)) for k in range(3)]
        one, state, loop = _plain_step(adapter, step.site, step.seen.pixels), step.state, []
        for seen in shown:
            mean, var, *after = one(state, *seen)
            state = type(step.state)(*after)
            loop.append((mean, var))
        stacked = Moments(
            torch.stack([mean for mean, _ in shown]), torch.stack([var for _, var in shown]), step.seen.pixels
        )
        used, last = queue(step.site, step.state, stacked)
        words = f"{step.where}, queue differs from one step after another: leave it out, or mend it"
        _require_alike(_each(used, step, len(shown)), loop, words)
        require(all(close(ours, theirs) for ours, theirs in zip(last, state, strict=True)), words)


def _require_alike(batched: Sequence[Tensor], loop: Sequence[Sequence[Tensor]], message: str) -> None:
    alike = all(close(now, torch.stack(parts)) for now, parts in zip(batched, zip(*loop, strict=True), strict=True))
    require(alike, message)


def _each(used: Statistics, step: Step, streams: int) -> list[Tensor]:
    """Statistics that are the same for all streams, as those of a site are, one for each."""
    return [part.expand(streams, *like.shape) for part, like in zip(used, step.used, strict=True)]


def check_packing(adapter: AnyAdapter) -> None:
    """A state survives being packed into one row and back."""
    history = list(walk(adapter))
    row = join([step.after for step in history])
    restored = Layout([adapter.init(step.site) for step in history]).split(row)
    kept = all(same(new, step.after) for new, step in zip(restored, history, strict=True))
    require(kept and row.dtype == torch.float32, "a state must come back from its packed row bit by bit: float32 only")


def check_adapter(adapter: AnyAdapter) -> None:
    """Run every check on an adapter.

    Raises:
        AssertionError: the first check that fails; the message names it and says what the contract asks for.
    """
    for name, check in CHECKS.items():
        try:
            check(adapter)
        except AssertionError as error:
            raise AssertionError(f"{adapter!r} fails the check '{name}': {error}") from error


CHECKS: dict[str, Callable[[AnyAdapter], None]] = {
    "docstring": check_docstring,
    "hyperparameters": check_hyperparameters,
    "init": check_init,
    "purity": check_purity,
    "shapes": check_shapes,
    "finite": check_finite,
    "vmap": check_vmap,
    "queue": check_queue,
    "packing": check_packing,
    "engine": model.check_engine,
    **model.CHECKS,
}
"""Every check by name: first those of the rule alone, then those of the rule inside a network."""


def _of(site: Site) -> tuple[Tensor, ...]:
    return site.mean, site.var, site.weight, site.bias


def _plain_step(adapter: AnyAdapter, site: Site, pixels: int) -> Callable[[Any, Tensor, Tensor], tuple[Tensor, ...]]:
    """The step at a site as a function from tensors to tensors: statistics, then the fields of the state."""

    def one(state: Any, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
        used, after = adapter.step(site, state, Moments(mean, var, pixels))
        return (*used, *after)

    return one


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32 and not value.requires_grad
