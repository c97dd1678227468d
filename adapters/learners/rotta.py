"""RoTTA: a slow teacher answers, a student learns from a balanced memory of the stream.

>>> RoTTA(capacity=16).lesson_images(images=1)  # an update reads the whole bank
16
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Learner, Lesson, Network, Start
from adapters.finite import all_finite
from adapters.learners.augmentations import augment
from adapters.learners.memory_bank import Bank, EvictionRule, MemoryBankUpdate, empty_bank
from adapters.learners.optimizers import Trace, adam, gradient, outside_inference_mode, zero_trace
from adapters.normalization.frozen import frozen
from adapters.params import Checked, param


class RottaState(NamedTuple):
    """The student, the teacher and the memory bank. The teacher's statistics are the adapter's state."""

    student: Tensor  # [parameters] float32, its affine parameters less the trained ones
    teacher: Tensor  # [parameters] float32
    first: Tensor  # [parameters] float32, the optimizer's, see `adapters.learners.optimizers.Trace`
    second: Tensor  # [parameters] float32
    updates: Tensor  # [] int64 on the CPU, the number of updates
    row: Tensor  # the student's statistics, in the form of the adapter's state
    images: Tensor  # the bank, see `adapters.learners.memory_bank.Bank`
    labels: Tensor
    uncertainties: Tensor
    ages: Tensor
    filled: Tensor
    images_seen: Tensor  # [] int64 on the CPU, the number of images of the stream

    @property
    def bank(self) -> Bank:
        """The memory bank."""
        return Bank(self.images, self.labels, self.uncertainties, self.ages, self.filled)


@dataclass(frozen=True)
class RoTTA(Checked, Learner[RottaState]):
    """Answer with a slow teacher; every ``update_every`` images teach a student on a balanced memory of the stream.

    The images of a request are answered first, then offered to the bank one by one, with the class that the answer
    named and its entropy, see `adapters.learners.memory_bank`. Each time ``update_every`` images have passed (so
    several times in a large request) both see the whole bank, the student augmented, and move the statistics they
    normalize with by one ordinary step of the adapter, each its own. The student takes one step of Adam down ``mean_i
    E(age_i) CE(softmax(teacher(x_i)), student(aug(x_i)))``, ``E(A) = exp(-A/N) / (1 + exp(-A/N))``, and the teacher
    follows: ``theta_T <- (1 - nu) theta_T + nu theta_S``. The loss has no factor 1/K, as in the authors' code.

    Made for ``robust_bn``. Between updates an adapter that is linear and remembers (also ``adabn``) answers from its
    state, which stays frozen. Others step with every request as usual, and once more with the bank at an update;
    those that remember nothing (``bn``, ``alpha_bn``) normalize each forward by its own images.
    An update whose gradient or outcome is not finite is skipped. Where images of another shape or type arrive
    the bank is emptied first; the learned parameters stay.

    Paper: Yuan, Xie and Li 2023, "Robust Test-Time Adaptation in Dynamic Scenarios" (CVPR 2023), section 3.
    """

    adapter: ClassVar[str] = "robust_bn"

    lr: float = param(1e-3, "Learning rate of the student.", above=0.0, high=1.0)
    teacher_rate: float = param(1e-3, "How far the teacher follows the student at an update: nu.", low=0.0, high=1.0)
    capacity: int = param(64, "Images in the bank: N.", low=1, high=4096)
    update_every: int = param(64, "Images from one update to the next.", low=1)
    lambda_t: float = param(1.0, "How much age counts against an image in the bank.", low=0.0)
    lambda_u: float = param(1.0, "How much uncertainty counts against it.", low=0.0)
    augment: bool = param(True, "Whether the student sees augmented images; without, it has nothing to learn at first.")
    seed: int = param(0, "Seed of the augmentation.", low=0, high=2**31 - 1)

    def init(self, start: Start) -> RottaState:
        """Return student and teacher as trained, and an empty bank."""
        zeros = start.row.new_zeros(start.affine, dtype=torch.float32)
        bank, count = empty_bank(self.capacity, start.image), torch.zeros((), dtype=torch.int64)
        return RottaState(zeros, zeros.clone(), *zero_trace(zeros), start.row.clone(), *bank, count)

    def affine(self, state: RottaState) -> Tensor:
        """Return the teacher's offsets."""
        return state.teacher

    def answering(self, adapter: AnyAdapter) -> AnyAdapter:
        """Return the adapter, frozen if it is linear and remembers, see `adapters.normalization.frozen`."""
        return frozen(adapter)

    def lesson_images(self, images: int) -> int:
        """Return the capacity of the bank, whatever the size of the request."""
        del images
        return self.capacity

    def learn(self, state: RottaState, lesson: Lesson, network: Network) -> tuple[RottaState, Tensor]:
        """Offer the images to the bank, and update wherever one is due; the row is the teacher's statistics."""
        # Autograd cannot use tensors made under inference_mode.
        with torch.inference_mode(False), torch.no_grad():
            return self._learn(
                RottaState(*map(outside_inference_mode, state)), Lesson(*map(outside_inference_mode, lesson)), network
            )

    def _learn(self, state: RottaState, lesson: Lesson, network: Network) -> tuple[RottaState, Tensor]:
        images, row = lesson.images, lesson.after
        bank, images_seen = state.bank, int(state.images_seen)
        if (images.shape[1:], images.dtype) != (bank.images.shape[1:], bank.images.dtype):
            bank = empty_bank(self.capacity, images)
        update = MemoryBankUpdate(bank, EvictionRule(lesson.logits.shape[1], self.lambda_t, self.lambda_u), images)
        for index, (label, uncertainty) in enumerate(zip(*_labels_and_entropies(lesson.logits), strict=True)):
            if isfinite(uncertainty):
                update.offer(index, label, uncertainty)
            images_seen += 1
            if images_seen % self.update_every == 0:
                state, row = self._update(state, row, update.bank(), network)
        count = torch.full_like(state.images_seen, images_seen)
        return state._replace(**update.bank()._asdict(), images_seen=count), row

    def _update(self, state: RottaState, row: Tensor, bank: Bank, network: Network) -> tuple[RottaState, Tensor]:
        """Return student and teacher after one forward of the bank each, and the teacher's statistics."""
        if not bank.filled.any():
            return state, row
        filled = bank.images if bank.filled.all() else bank.images[bank.filled.to(bank.images.device)]
        images = filled.to(row.device)  # augmenting is quicker where the network is
        logits, new_row = network(images, row, state.teacher)
        target = logits.softmax(1)
        views = augment(images, self.seed, int(state.updates)) if self.augment else images
        weights = (-bank.ages[bank.filled] / self.capacity).sigmoid().to(target)

        def loss(student: Tensor) -> tuple[Tensor, Tensor]:
            logits, row = network(views, state.row, student)
            return -(weights * (target * logits.log_softmax(1)).sum(1)).mean(), row

        slope, student_row = gradient(loss, state.student)
        student, trace = adam(state.student, slope, Trace(state.first, state.second, state.updates), self.lr)
        teacher = state.teacher.lerp(student, self.teacher_rate)
        if not all_finite(slope, student, trace.first, trace.second, teacher, student_row, new_row):
            return state, row
        state = state._replace(student=student, teacher=teacher, row=student_row)
        return state._replace(first=trace.first, second=trace.second, updates=trace.steps), new_row


def _labels_and_entropies(logits: Tensor) -> tuple[list[int], list[float]]:
    """Return the predicted class of each answer, and its entropy in nats."""
    shares = logits.softmax(1)
    labels: list[int] = shares.argmax(1).tolist()
    entropies: list[float] = (-shares * (shares + 1e-6).log()).sum(1).tolist()
    return labels, entropies
