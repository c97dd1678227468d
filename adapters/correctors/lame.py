"""LAME: similar images of a request, and of those before it, made to agree on their classes.

>>> lame, features = Lame(memory=0, when="always"), torch.tensor([[1.0, 0.0], [1.0, 0.1]])
>>> lame.correct(lame.init(2, classes=2), features, torch.tensor([[3.0, 0.0], [0.0, 0.5]]))[0].argmax(-1)
tensor([0, 0])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import Corrector
from adapters.correctors.affinity import AFFINITIES, assign, directions
from adapters.params import Checked, param

FLOOR = 1e-10
"""Added to probabilities before their logarithm is taken, as the authors do."""
PRIOR = 20
"""Images that the uniform start of the class frequencies counts as."""
FREQUENCIES = 200
"""Images over which class frequencies are averaged."""
REPEATS = 100
"""Pairs of successive images over which the rate of repeats is averaged."""
SIGMAS = 3.0
"""Standard errors by which the rate of repeats must exceed chance."""
MIN_KAPPA = 0.25
"""Cohen's kappa of successive predictions from which they are trusted, though most repeats are by chance."""
WHEN = ("correlated", "always", "never")


class LameState(NamedTuple):
    """The memory of a stream, all float32; fields that the hyperparameters do not use have no entries."""

    features: Tensor  # [M, d] unit vectors, the latest image last
    scores: Tensor  # [M, K] the logarithms of the network's own probabilities
    filled: Tensor  # [1] the number of filled rows of the M, counted from the last
    classes: Tensor  # [K] frequencies of the predicted classes
    repeats: Tensor  # [1] the share of predictions equal to the one before
    last: Tensor  # [1] the class predicted last, -1 before there is one
    images: Tensor  # [1] images counted, up to FREQUENCIES


@dataclass(frozen=True)
class Lame(Checked, Corrector[LameState]):
    """Correct a request's probabilities so that images with similar features get similar answers, without any learning.

    With p the network's probabilities, ``u = -ln(p + 1e-10)`` and W the affinity of the images' features on the unit
    sphere, ``Y <- softmax(-u + weight W Y)`` is iterated from ``Y = p`` until the energy
    ``sum(u Y - weight (W Y) Y + Y ln Y)`` changes by at most 1e-8 of itself. ``affinity="knn"``: 1 for the nearest
    ``neighbours`` other images, else 0; ``"rbf"``: ``exp(-d^2 / 2 s^2)``, s the mean distance to the k-th nearest, each
    counting itself; ``"linear"``: the cosine. There are never more neighbours than images; one alone stays as it is.

    With ``memory=M`` the last M images of the stream take part, with the network's own answers, so that single images
    can be corrected too, and a request of more than M is corrected M images at a time, so that nothing older than 2 M
    images counts however a stream is cut. It costs ``M (d + K)`` numbers per stream, and time that grows with ``M^2``
    for each M images. Runs of one class should be longer than M.

    It helps where successive images often show the same class and most are recognized, and harms elsewhere.
    ``when="correlated"`` corrects a request only if predictions repeat more often than chance, and by enough. With r
    the share of images predicted as the one before, and q the frequencies of predicted classes, both must hold:

    - ``r - s > 3 sqrt(v / m) + 3^2 / 6 / min(t, 100)``, where ``s = sum q^2`` is what independent images would have,
      ``v = s + 2 sum q^3 - 3 s^2`` the variance of one pair among independent ones, its overlap with the next included,
      t the pairs seen and ``m = min(t, 199)`` the pairs that the average r is worth; the last term (Bernstein's) makes
      up for the few repeats that few pairs or many classes have;
    - ``r - s > min(s, (1 - s) / 4)``: most repeats are not by chance, or Cohen's kappa of successive predictions is
      above 1/4, as it is where more than half of a long run is recognized and errors are spread evenly. A weak network
      that gives one class for most images repeats itself by chance, and fails here even where true classes repeat.

    r is the mean of all pairs up to 100, then a moving average of weight 1/100; q that of all images and 20 uniform
    ones up to 200, then one of weight 1/200. Both include the request itself, and count the network's own predictions.
    A stream that begins with one class is corrected, until predictions of it alone no longer tell a camera that shows
    one thing from a network that answers one thing: after 300 images at most, or 600 where other classes came before.

    Where a network does not end in a linear layer, its logits are the features. An output for each pixel predicts no
    class of the image, so nothing repeats: unless ``when="always"`` it stays as it is. ``when="never"`` switches it
    off, as in ``auto`` with ``lame.when=never``.

    The published form is ``memory=0, when="always"``; it sees one request only and ruins independent streams.

    Paper: Boudiaf et al. 2022, "Parameter-free Online Test-time Adaptation" (CVPR 2022), section 4, equation 7. Memory
    and ``when`` are Renorm's own.
    """

    features: ClassVar[bool] = True
    scores_suffice: ClassVar[bool] = True
    last: ClassVar[bool] = True

    affinity: str = param("rbf", "How the affinity of two images is measured.", choices=tuple(AFFINITIES))
    neighbours: int = param(5, "Neighbours of an image; rbf counts the image itself.", low=1)
    weight: float = param(1.0, "Weight of the agreement with neighbours.", low=0.0, high=1000.0)
    iterations: int = param(100, "Iterations at most.", low=1, high=10_000)
    memory: int = param(
        16, "Images of the stream that are remembered, and corrected at a time; 0: all of a request.", low=0, high=4096
    )
    when: str = param("correlated", "Correct while predictions repeat beyond chance, always, or never.", choices=WHEN)

    def init(self, features: int, classes: int) -> LameState:
        """Return the state of a stream without images: frequencies are uniform."""
        memory, gated = self.memory * (self.when != "never"), int(self.when == "correlated")
        return LameState(
            features=torch.zeros(memory, features),
            scores=torch.zeros(memory, classes),
            filled=torch.zeros(min(memory, 1)),
            classes=torch.full((gated * classes,), 1.0 / classes),
            repeats=torch.zeros(gated),
            last=torch.full((gated,), -1.0),
            images=torch.zeros(gated),
        )

    def correct(self, state: LameState, features: Tensor, logits: Tensor) -> tuple[Tensor, LameState]:
        """Return assignments ``[n, classes]``; for n = 1 without memory, the network's own answer."""
        if self.when == "never":
            return logits.softmax(-1), state
        pieces, answers = self.memory or len(logits), []
        for piece in zip(torch.split(features, pieces), torch.split(logits, pieces), strict=True):
            answer, state = self._correct(state, *piece)
            answers.append(answer)
        return torch.cat(answers), state

    def is_active(self, state: LameState) -> bool:
        """Return whether answers are corrected."""
        return self.when == "always" or (self.when == "correlated" and is_correlated(state))

    @property
    def condition(self) -> str:
        """The condition under which it changes answers."""
        conditions = {"correlated": "predictions repeat more often than by chance", "never": "it is not switched off"}
        return conditions.get(self.when, "")

    def _correct(self, state: LameState, features: Tensor, logits: Tensor) -> tuple[Tensor, LameState]:
        units, probabilities = directions(features), logits.double().softmax(-1)
        new_state = self._remember(state, units, (probabilities + FLOOR).log())
        if self.when == "correlated":
            new_state = count_predictions(new_state, logits.argmax(-1))
        if self.is_active(new_state):
            probabilities = self._agree(state, units, probabilities)
        return probabilities.to(logits.dtype), new_state

    def _agree(self, state: LameState, units: Tensor, probabilities: Tensor) -> Tensor:
        images, scores = len(units), (probabilities + FLOOR).log()
        if self.memory:
            empty = self.memory - int(state.filled)
            units = torch.cat([state.features[empty:].double(), units])
            scores = torch.cat([state.scores[empty:].double(), scores])
        if len(units) < 2:
            return probabilities
        affinity = AFFINITIES[self.affinity](units, self.neighbours)
        return assign(scores, affinity, self.weight, self.iterations)[-images:]

    def _remember(self, state: LameState, units: Tensor, scores: Tensor) -> LameState:
        """Return the state with the request's rows appended, as many of the oldest dropped."""
        if not self.memory:
            return LameState(*(part.clone() for part in state))
        images = len(units)
        return state._replace(
            # Cloned, so that no row that left is kept alive.
            features=torch.cat([state.features, units.float()])[images:].clone(),
            scores=torch.cat([state.scores, scores.float()])[images:].clone(),
            filled=(state.filled + images).clamp(max=self.memory),
        )


def count_predictions(state: LameState, predicted: Tensor) -> LameState:
    """Return the state after the predictions ``[n]`` of a request, counted image by image."""
    # In Python's numbers, which for the few images of most requests is a tenth of the time.
    images, repeats, last = float(state.images), float(state.repeats), float(state.last)
    shares = list[float]()
    for label in predicted.tolist():
        shares.append(1.0 / min(images + PRIOR + 1.0, FREQUENCIES))
        # A stream's first image, of weight 1, makes no pair; the first pair has weight 1 as well and replaces it.
        repeats += (float(label == last) - repeats) / min(max(images, 1.0), REPEATS)
        last, images = label, images + 1.0
    decay, weights = 1.0, list[float]()
    for share in reversed(shares):
        weights.insert(0, decay * share)
        decay *= 1.0 - share
    return state._replace(
        classes=(decay * state.classes).index_add(0, predicted, state.classes.new_tensor(weights)),
        repeats=torch.full_like(state.repeats, repeats),
        last=torch.full_like(state.last, last),
        images=torch.full_like(state.images, min(images, FREQUENCIES)),
    )


def is_correlated(state: LameState) -> bool:
    """Return true if predictions repeat more often than chance, and by enough to trust them: the rule of `Lame`."""
    pairs = max(float(state.images) - 1.0, 1.0)
    q, square = state.classes, state.classes.square()
    chance, cube = float(square.sum()), float(torch.dot(q, square))
    variance = max(chance + 2.0 * cube - 3.0 * chance * chance, 0.0)
    error = math.sqrt(variance / min(pairs, 2.0 * REPEATS - 1.0))
    bound = SIGMAS * error + SIGMAS**2 / 6.0 / min(pairs, REPEATS)
    return float(state.repeats) - chance > max(bound, min(chance, MIN_KAPPA * (1.0 - chance)))
