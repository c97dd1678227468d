"""Checks of the contract of learners, which a plugin author can run.

>>> from adapters import Tent
>>> check_init(Tent(lr=0.01))  # check_learner runs them all

Each check is a function of a learner that returns None, or raises AssertionError with what was wrong and what the
contract asks for. They teach it on a small network, normalized by the adapter that the learner names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import AnyAdapter, AnyLearner, Learner, Lesson, Moments, Site, Start
from adapters.checks.adapter import check_docstring, check_hyperparameters
from adapters.checks.requirements import equal, refusal, require, require_pure, require_same_start, run_checks
from adapters.normalization.source import Source
from adapters.registry import STRATEGIES
from adapters.state.memory import Layout, join

SIZES = (1, 2, 5, 128)
"""The images of successive requests."""
CLASSES, SIDE = 4, 6


class SmallNetwork:
    """Two convolutions, each with BatchNorm and ReLU, pooling and a linear layer: a `Network` for checks.

    It takes pixels, uint8 ``[n, H, W, 3]``, or floating ``[n, 3, H, W]``, and works in ``dtype``. The adapter takes
    its step by hand at both sites.
    """

    def __init__(self, adapter: AnyAdapter, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(5)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        def site(name: str, channels: int) -> Site:
            parts = [normal(channels) for _ in range(4)]
            return Site(name, 0.3 * parts[0], 0.5 + parts[1].square(), 1 + 0.3 * parts[2], 0.3 * parts[3], 1e-5)

        self.dtype = dtype
        self.sites = [site("first", 5), site("second", 6)]
        self.filters = [0.4 * normal(5, 3, 3, 3), 0.3 * normal(6, 5, 3, 3)]
        self.head, self.bias = normal(CLASSES, 6), normal(CLASSES)
        # As if trained: every class is predicted for some images, and few answers are confident, for every adapter.
        self._normalize_by(Source())
        logits, _ = self(floating(64, 0), self._layout.row, torch.zeros(self.parameters))
        spread = logits.std(0) / 1.5
        self.head, self.bias = self.head / spread[:, None], (self.bias - logits.mean(0)) / spread
        self._normalize_by(adapter)

    def _normalize_by(self, adapter: AnyAdapter) -> None:
        self.adapter = adapter
        self._layout = Layout([adapter.init(site) for site in self.sites])

    @property
    def parameters(self) -> int:
        """The number of affine parameters of the layers."""
        return 2 * sum(site.channels for site in self.sites)

    def start(self, image: Tensor) -> Start:
        """Return the start of a learner."""
        return Start(self.parameters, self._layout.row.clone(), image, CLASSES)

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[n, 4]``, and the adapter's state after the images."""
        x = network_input(images).to(self.dtype)
        channels = [site.channels for site in self.sites]
        offsets = torch.split(affine, [*channels, *channels])
        new_states = []
        for layer, (site, state) in enumerate(zip(self.sites, self._layout.split(row), strict=True)):
            x = F.conv2d(x, self.filters[layer], padding=1)
            moments = Moments(x.mean((2, 3)), x.var((2, 3), correction=0), x[0, 0].numel())
            statistics, new_state = self.adapter.step(site, state, moments)
            mean, var = (part.reshape(-1, site.channels, 1, 1) for part in statistics)
            weight = (site.weight + offsets[layer]).view(-1, 1, 1)
            bias = (site.bias + offsets[layer + len(channels)]).view(-1, 1, 1)
            x = torch.relu((x - mean) / (var + site.eps).sqrt() * weight + bias)
            new_states.append(new_state)
        return x.mean((2, 3)) @ self.head.mT + self.bias, join(new_states).detach()


class LessonResult(NamedTuple):
    """One lesson, its case and its outcome."""

    case: str
    network: SmallNetwork
    state: Any
    lesson: Lesson
    new_state: Any
    row: Tensor


def network_input(images: Tensor) -> Tensor:
    """Return the input of the small network: pixels become about like `floating` images."""
    return images.permute(0, 3, 1, 2) / 64.0 - 2.0 if images.dtype == torch.uint8 else images


def floating(n: int, seed: int) -> Tensor:
    """Return floating-point images ``[n, 3, 6, 6]``, each of another tint, the same at every call."""
    generator = torch.Generator().manual_seed(seed)
    tint = torch.randn(n, 3, 1, 1, generator=generator)
    return 0.3 + tint + torch.randn(n, 3, SIDE, SIDE, generator=generator)


def pixels(n: int, seed: int) -> Tensor:
    """Return the same as pixels, ``[n, 6, 6, 3]`` of uint8."""
    return (64 * floating(n, seed) + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def flat(n: int, seed: int) -> Tensor:
    """Return images of one grey each, the first one black."""
    greys = (17 * torch.arange(n) + 40 * seed).remainder(256).to(torch.uint8)
    return greys.view(n, 1, 1, 1).expand(n, SIDE, SIDE, 3).clone()


def network_of(learner: AnyLearner) -> SmallNetwork:
    """Return the small network with the normalization that the learner names."""
    name = learner.adapter
    require(name in STRATEGIES, f"adapter must name the normalization that the learner goes with, not {name!r}")
    return SmallNetwork(STRATEGIES[name]())


def walk(learner: AnyLearner, lessons: int, images: Callable[[int, int], Tensor] = pixels) -> Iterator[LessonResult]:
    """Run lessons of 1, 2, 5 and 128 images in turn, each from the state after the one before."""
    network = network_of(learner)
    answering = SmallNetwork(learner.answering(network.adapter))
    start = network.start(images(1, 0))
    state, row = learner.init(start), start.row
    for number, n in enumerate(islice(cycle(SIZES), lessons)):
        case = f"in lesson {number + 1}, of n={n} images ({images.__name__})"
        batch = images(n, number)
        with torch.no_grad():
            logits, adapter_state = answering(batch, row, learner.affine(state))
        lesson = Lesson(batch, logits, row, adapter_state)
        try:
            # On copies, so that the states seen by the checks are as they should be even if learn writes to them.
            new_state, new_row = learner.learn(*copy.deepcopy((state, lesson)), network)
        except Exception as error:
            raise refusal("learn", case, error) from error
        yield LessonResult(case, network, state, lesson, new_state, new_row)
        state, row = new_state, new_row


def check_init(learner: AnyLearner) -> None:
    """The initial state is always the same, leaves the network as it is, and making it changes nothing."""
    network, image = network_of(learner), pixels(1, 0)
    start = network.start(image)
    first = require_same_start(partial(learner.init, start), {"the start": (start.row, start.image)})
    require(all(_is_plain(field) for field in first), "a state is a NamedTuple of tensors without gradient")
    affine = learner.affine(first)
    require(affine.shape == (network.parameters,), f"affine must be [{network.parameters}], not {list(affine.shape)}")
    require(not affine.any(), "a new stream's affine must be all zeros: what is learned is the difference to training")


def check_answering(learner: AnyLearner) -> None:
    """The adapter that answers has states of the same shapes as the one that the learner is combined with."""
    network = network_of(learner)
    answering = learner.answering(network.adapter)
    for site in network.sites:
        shapes, expected = ([field.shape for field in adapter.init(site)] for adapter in (answering, network.adapter))
        require(shapes == expected, f"answering gave an adapter with states of shapes {shapes} in place of {expected}")


def check_purity(learner: AnyLearner) -> None:
    """A lesson is pure: it writes to no argument, draws only seeded random numbers and stores nothing."""
    for result in walk(learner, 2 * len(SIZES)):
        arguments = {"the state": result.state, "the lesson": result.lesson}
        call = partial(learner.learn, result.state, result.lesson, result.network)
        new_state, row = require_pure(call, arguments, f"{result.case}, learn")
        is_repeatable = equal((*new_state, row), (*result.new_state, result.row))
        require(is_repeatable, f"{result.case}, the same lesson taught something else: keep nothing and draw nothing")


def check_shapes(learner: AnyLearner) -> None:
    """The state keeps type, shapes and types of numbers over a hundred lessons, and so does the adapter's."""
    kinds: list[Any] = []
    for result in walk(learner, 100):
        kinds = kinds or [_shape_and_dtype(field) for field in result.state]
        require(type(result.new_state) is type(result.state), f"{result.case}, learn must return a state as init does")
        is_preserved = [_shape_and_dtype(field) for field in result.new_state] == kinds
        require(
            is_preserved,
            f"{result.case}, the fields of the state must keep shapes and types: a stream's bytes are counted",
        )
        require(
            _shape_and_dtype(result.row) == _shape_and_dtype(result.lesson.after),
            f"{result.case}, the row must be one of the adapter's",
        )
        require(
            all(_is_plain(part) for part in (*result.new_state, result.row)), f"{result.case}, detach what is returned"
        )


def check_finite(learner: AnyLearner) -> None:
    """The offsets are float32 and finite, whatever the images, and so is the adapter's state."""
    for images in (pixels, floating, flat):
        for result in walk(learner, 3 * len(SIZES), images):
            affine = learner.affine(result.new_state)
            shape, parameters = list(affine.shape), result.network.parameters
            require(
                shape == [parameters] and affine.dtype == torch.float32,
                f"{result.case}, affine must be [{parameters}] float32, not {shape} {affine.dtype}",
            )
            is_finite = bool(affine.isfinite().all() and result.row.isfinite().all())
            require(
                is_finite, f"{result.case}, not all numbers are finite: leave the state as it is where a step is not"
            )


def check_learns(learner: AnyLearner) -> None:
    """The affine parameters change within a hundred lessons."""
    for result in walk(learner, 100):
        if learner.affine(result.new_state).any():
            return
    raise AssertionError("after a hundred lessons affine is still all zeros: nothing was learned")


def check_learner(learner: AnyLearner) -> None:
    """Run every check on a learner.

    Raises:
        AssertionError: the first check that fails; the message names it and says what the contract asks for.
    """
    run_checks(CHECKS, learner, Learner)


CHECKS: dict[str, Callable[[Any], None]] = {
    "hyperparameters": check_hyperparameters,
    "init": check_init,
    "answering": check_answering,
    "purity": check_purity,
    "shapes": check_shapes,
    "finite": check_finite,
    "learns": check_learns,
    "docstring": check_docstring,
}
"""Every check by name."""


def _shape_and_dtype(field: Tensor) -> tuple[torch.Size, torch.dtype]:
    return field.shape, field.dtype


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.requires_grad
