"""The base of learners that take gradient steps on the answers to a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Learner, Lesson, Network, Start
from adapters.finite import all_finite
from adapters.learners.optimizers import OPTIMIZERS, Trace, gradient, outside_inference_mode, zero_trace
from adapters.params import Checked, param


class DescentState(NamedTuple):
    """The offsets of a stream's affine parameters, and the state of the optimizer."""

    affine: Tensor  # [parameters] float32, added to the trained weights and biases
    first: Tensor  # [parameters] float32, the optimizer's, see `adapters.learners.optimizers.Trace`
    second: Tensor  # [parameters] float32
    steps: Tensor  # [] int64 on the CPU


@dataclass(frozen=True)
class Descent(Checked, Learner[DescentState]):
    """Base of learners that take gradient steps on the answers to one request: a subclass gives the `loss`.

    >>> class Doubt(Descent):
    ...     def loss(self, logits): return 1.0 - logits.softmax(1).amax(1).mean()
    >>> Doubt(lr=0.01).loss(torch.zeros(8, 4))
    tensor(0.7500)

    The request was answered with the parameters before its own step, as in the authors' code, and the gradient is
    that of the same forward: from the adapter's state that the request met, through the statistics of its images. The
    adapter's state is left to the adapter. A step whose gradient or outcome is not finite is not taken. Because streams
    share no parameters, lessons of many streams take their steps in one forward, see `adapters.engine.lessons`.
    """

    lr: float = param(1e-3, "Learning rate.", above=0.0, high=1.0)
    steps: int = param(1, "Gradient steps per request.", low=1, high=100)
    optimizer: str = param("adam", "Adam, or descent with a momentum of 0.9.", choices=tuple(OPTIMIZERS))
    least_images: int = param(1, "Requests of fewer images are answered but not learned from.", low=1)

    def loss(self, logits: Tensor) -> Tensor:
        """Return the loss that a step reduces: a scalar from logits ``[n, classes]``."""
        raise NotImplementedError

    def init(self, start: Start) -> DescentState:
        """Return offsets of zero: the trained parameters."""
        zeros = start.row.new_zeros(start.affine, dtype=torch.float32)
        return DescentState(zeros, *zero_trace(zeros))

    def affine(self, state: DescentState) -> Tensor:
        """Return the learned offsets."""
        return state.affine

    def lesson_images(self, images: int) -> int:
        """Return the number of images of the request, or 0 if they are fewer than ``least_images``."""
        return images if images >= self.least_images else 0

    def learn(self, state: DescentState, lesson: Lesson, network: Network) -> tuple[DescentState, Tensor]:
        """Return the parameters after the steps, and the adapter's state after its own step."""
        if len(lesson.images) < self.least_images:
            return state, lesson.after
        # Autograd cannot use tensors made under inference_mode later.
        with torch.inference_mode(False), torch.no_grad():
            state = DescentState(*map(outside_inference_mode, state))
            images, _, row, new_row = map(outside_inference_mode, lesson)
            return self._descend(state, images, row, network), new_row

    def take_step(self, state: DescentState, slope: Tensor) -> DescentState | None:
        """Return the state after one step down the ``slope`` ``[parameters]``, or None if the step is not finite."""
        affine, trace = OPTIMIZERS[self.optimizer](state.affine, slope, Trace(*state[1:]), self.lr)
        # A square that overflows would stay in the average forever, so the state must be finite too.
        return DescentState(affine, *trace) if all_finite(slope, affine, trace.first, trace.second) else None

    def _descend(self, state: DescentState, images: Tensor, row: Tensor, network: Network) -> DescentState:
        def loss(affine: Tensor) -> tuple[Tensor, None]:
            return self.loss(network(images, row, affine)[0]), None

        for _ in range(self.steps):
            new_state = self.take_step(state, gradient(loss, state.affine)[0])
            if new_state is None:
                break
            state = new_state
        return state
