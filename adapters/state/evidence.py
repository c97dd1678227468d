"""The evidence that a stream gathers from its answers: running sums, and what steps read of them.

>>> state = new_evidence_state()
>>> for _ in range(8):  # 256 images, whose ten classes come in turn
...     state = add_answers(state, 9.0 * torch.eye(10)[torch.arange(32) % 10])
>>> evidence = Evidence(*state.published.unbind(-1))
>>> round(float(evidence.diversity), 2), round(float(evidence.persistence), 2), round(float(evidence.independence), 2)
(1.0, 1.09, 0.92)

With y the predicted class of an image as a vector of zeros and a one, q the mean of y over the last HORIZON images and
e_h its exponential average over SPANS h, independent classes make ``E |e_h - q|^2`` equal to ``(1 - sum q^2) / h``.
The largest ratio of both is the persistence: the images for one with an independent class. Classes that come in
runs of R show it from spans of about R on. The CLASSES-th class and those beyond it are counted with the first ones, so
that the size is the same for every network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.evidence import Evidence, new_evidence

CLASSES = 64
"""Classes that are told apart."""
HORIZON = 300
"""Images over which running means are taken."""
PERIOD = 32
"""Images of a stream after which steps read its evidence anew."""
SPANS = (2.0, 8.0, 32.0, 128.0)
"""Images that exponential averages look back on: weight 2 / (1 + h) for the last one."""
FEWEST_CLASSES, MOST_CLASSES = 0.6, 0.95
"""Diversity below which no image counts as independent of the others, and from which all that persistence leaves do."""
MOST_IMAGES = 10_000
"""Images beyond which their number changes nothing."""
MOST_AT_ONCE = 64
"""Images of a request that are added together; more would take memory that grows with their square."""


class EvidenceState(NamedTuple):
    """Running sums over a stream's answers."""

    published: Tensor  # [..., 6] the `Evidence` that steps read
    images: Tensor  # [..., 1] up to MOST_IMAGES
    pending: Tensor  # [..., 1] images since evidence was published
    shares: Tensor  # [..., CLASSES] of the predicted classes: q
    averages: Tensor  # [..., SPANS, CLASSES] the exponential averages, which begin with zeros
    squares: Tensor  # [..., SPANS] running mean of |e_h - q|^2
    entropy: Tensor  # [..., 1] running mean, in units of the largest


def new_evidence_state(device: torch.device | None = None) -> EvidenceState:
    """Return the sums of a stream without answers."""
    zero, spans = torch.zeros(1, device=device), torch.zeros(len(SPANS), device=device)
    averages = torch.zeros(len(SPANS), CLASSES, device=device)
    return EvidenceState(torch.cat(new_evidence(device)), zero, zero, averages[0], averages, spans, zero)


def add_answers(
    state: EvidenceState, logits: Tensor, find_mixture: Callable[[Tensor], Tensor] | None = None
) -> EvidenceState:
    """Add the answers ``[..., n, K]`` of one request of each stream; those of a single score are its sign.

    ``find_mixture`` returns `Evidence.mixture` ``[..., 1]`` from what it was; it is called where evidence is published.
    """
    if logits.shape[-1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    for part in torch.split(logits.float(), MOST_AT_ONCE, -2):
        state = _add(state, part)
    # Reading what is on a CPU costs nothing, and most requests are not the last of a period.
    if state.pending.is_cpu and not bool((state.pending >= PERIOD).any()):
        return state
    mixture = published(state).mixture
    return _publish(state, min(CLASSES, logits.shape[-1]), mixture if find_mixture is None else find_mixture(mixture))


def published(state: EvidenceState) -> Evidence:
    """Return the evidence that steps read."""
    return Evidence(*torch.split(state.published, 1, -1))


def _add(state: EvidenceState, logits: Tensor) -> EvidenceState:
    images, classes = logits.shape[-2:]
    labels = _one_hot(logits.device)[logits.argmax(-1) % CLASSES]
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1) / math.log(classes)
    count = (state.images + images).clamp(max=MOST_IMAGES)
    pace = (images / count.clamp(max=HORIZON)).clamp(max=1.0)
    # Of a single image, a view is quicker than a mean.
    label, entropy = (labels[..., 0, :], entropy) if images == 1 else (labels.mean(-2), entropy.mean(-1, keepdim=True))
    shares = torch.lerp(state.shares, label, pace)
    remaining = _remaining(logits.device)
    if images == 1:
        averages = torch.lerp(label.unsqueeze(-2), state.averages, remaining).unsqueeze(-2)
        weight = 1.0 - (remaining[:, 0] ** (state.images + 1.0)).unsqueeze(-1)
    else:
        kernel, decay, ages = _exponential_weights(images, logits.device)
        averages = kernel @ labels.unsqueeze(-3) + decay * state.averages.unsqueeze(-2)
        weight = 1.0 - remaining ** (state.images + ages).unsqueeze(-2)
    # Averages that begin with zeros have weights that sum up to less than one.
    distance = (averages / weight.unsqueeze(-1) - shares[..., None, None, :]).square().sum(-1).mean(-1)
    return state._replace(
        images=count,
        pending=state.pending + images,
        shares=shares,
        averages=averages[..., -1, :],
        squares=torch.lerp(state.squares, distance, pace),
        entropy=torch.lerp(state.entropy, entropy, pace),
    )


def _publish(state: EvidenceState, classes: int, mixture: Tensor) -> EvidenceState:
    """Let steps read the sums where PERIOD images have come since they last did."""
    spread = 1.0 - state.shares.square().sum(-1, keepdim=True)
    spans = state.squares * torch.tensor(SPANS, device=spread.device)
    persistence = (spans.amax(-1, keepdim=True) / spread.clamp_min(1e-6)).clamp_min(1.0)
    diversity = (spread / (1.0 - 1.0 / classes)).clamp(0.0, 1.0)
    trust = ((diversity - FEWEST_CLASSES) / (MOST_CLASSES - FEWEST_CLASSES)).clamp(0.0, 1.0).square()
    images = state.images.clamp(max=HORIZON)
    evidence = torch.cat(Evidence(images, trust / persistence, persistence, diversity, state.entropy, mixture), -1)
    is_due = state.pending >= PERIOD
    return state._replace(
        published=torch.where(is_due, evidence, state.published), pending=state.pending.remainder(PERIOD)
    )


@lru_cache(64)
def _exponential_weights(images: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of n images in the averages after each ``[SPANS, n, n]``, those of the averages before
    ``[SPANS, n, 1]``, and the places of the images ``[n]``, from 1.
    """
    places = torch.arange(1, images + 1, device=device)
    remaining = _remaining(device)
    lag = (places[:, None] - places).clamp_min(0)
    kernel = ((1.0 - remaining)[:, :, None] * remaining[:, :, None] ** lag).tril()
    return kernel, (remaining**places)[:, :, None], places.float()


@lru_cache(8)
def _one_hot(device: torch.device) -> Tensor:
    """Return each class as a vector of zeros and a one ``[CLASSES, CLASSES]``."""
    return torch.eye(CLASSES, device=device)


@lru_cache(8)
def _remaining(device: torch.device) -> Tensor:
    """Return the share of an average that one image leaves ``[SPANS, 1]``."""
    return torch.tensor([[1.0 - 2.0 / (1.0 + span)] for span in SPANS], device=device)
