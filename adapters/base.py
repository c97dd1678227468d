"""The contract of adapters, correctors and learners, of which strategies are made."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from adapters.evidence import Evidence
from adapters.explanation import Leaning

State = TypeVar("State", bound=tuple[Any, ...])
"""The memory of one stream: a NamedTuple of tensors; of an adapter, at a site, float32 of shapes fixed by the site."""


class Moments(NamedTuple):
    """The mean and variance of each image of one request at a site, over its positions.

    >>> moments = Moments(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.5], [0.5]]), pixels=16)
    >>> moments.pooled()
    Statistics(mean=tensor([2.]), var=tensor([1.5000]))

    Variances are biased (divided by the number of positions) everywhere in Renorm. By the law of total variance
    these moments hold the batch statistics exactly: see `pooled`.
    """

    mean: Tensor  # [n, C] float32
    var: Tensor  # [n, C] float32, biased
    pixels: int  # positions per entry: H*W, or 1 for BatchNorm1d on [N, C]
    evidence: Evidence | None = None  # of the stream, where the adapter reads it

    @property
    def images(self) -> int:
        """The number of images in the request: n."""
        return self.mean.shape[-2]

    @property
    def values(self) -> int:
        """The number of values behind each pooled channel: n * pixels. Fewer than two have no variance."""
        return self.images * self.pixels

    def map(self, function: Callable[[Tensor], Tensor]) -> Moments:
        """Return the moments with each tensor as the function returns it, those of the evidence included."""
        evidence = None if self.evidence is None else self.evidence.map(function)
        return Moments(function(self.mean), function(self.var), self.pixels, evidence)

    def pooled(self, *, unbiased: bool = False) -> Statistics:
        """Statistics of the request as a whole, ``[C]``: ``mean = E[m_n]``, ``var = E[v_n] + Var[m_n]``.

        ``unbiased`` multiplies the variance by ``values / (values - 1)``, as code built on ``running_var`` does.
        """
        mean = self.mean.mean(-2)
        # The centred form: a difference of squares cancels when the mean is large compared to the deviation.
        var = self.var.mean(-2) + (self.mean - mean.unsqueeze(-2)).square().mean(-2)
        return Statistics(mean, var * (self.values / (self.values - 1)) if unbiased else var)


class Statistics(NamedTuple):
    """A mean and a variance to normalize with or to remember: one row ``[C]``, or one per image ``[n, C]``.

    >>> Statistics(torch.zeros(1), torch.ones(1)).toward(Statistics(torch.ones(1), torch.ones(1)), weight=0.25)
    Statistics(mean=tensor([0.2500]), var=tensor([1.]))
    """

    mean: Tensor
    var: Tensor

    def toward(self, target: Statistics, weight: float | Tensor) -> Statistics:
        """Return ``self + weight * (target - self)``."""
        return Statistics(self.mean + weight * (target.mean - self.mean), self.var + weight * (target.var - self.var))

    def expand_to(self, images: Tensor) -> Statistics:
        """Return a row for each of the ``images`` ``[..., n, C]``, of statistics ``[..., C]`` or ``[..., n, C]``."""
        dim, shape = images.dim(), images.shape
        return Statistics(*(part if part.dim() == dim else part.unsqueeze(-2).expand(shape) for part in self))


@dataclass(frozen=True, eq=False)
class Site:
    """One BatchNorm position of a network, with its trained statistics and affine parameters. Never written to.

    >>> Site("bn1", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), eps=1e-5).trained
    Statistics(mean=tensor([0., 0.]), var=tensor([1., 1.]))

    ``name`` is the module's dotted name; a module called more than once in a forward is one site per call, the
    later ones named ``name#2``, ``name#3`` and so on, because each call sees activations of its own.
    """

    name: str
    mean: Tensor  # [C] float32, the trained running mean
    var: Tensor  # [C] float32, the trained running variance
    weight: Tensor  # [C] float32, ones where the layer has no affine
    bias: Tensor  # [C] float32, zeros where the layer has no affine
    eps: float
    depth: float = 0.0  # place among the network's layers: 0 the first, 1 the last
    spread: float = math.inf  # variance of means between images by what they show, in trained variances; inf: unknown
    contrast_spread: float = math.inf  # the same of the logarithm of their variances' mean, which has no unit
    row: Tensor = field(init=False, repr=False)  # [1, 2C], the trained mean and variance side by side
    precision: Tensor = field(init=False, repr=False)  # [C], one over C trained variances

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", torch.cat([self.mean, self.var])[None])
        object.__setattr__(self, "precision", (1.0 / len(self.var)) / (self.var + self.eps))

    @property
    def channels(self) -> int:
        """The number of channels that the site normalizes: C."""
        return self.mean.shape[0]

    @property
    def trained(self) -> Statistics:
        """The statistics of the training data, which `source` normalizes with."""
        return Statistics(self.mean, self.var)


class Adapter(ABC, Generic[State]):
    """Base of normalization methods: a subclass is a frozen dataclass of hyperparameters with two pure functions.

    Both functions may be called from any thread, for any stream, in any order; they neither write to their arguments
    nor keep anything. Branch on shapes and hyperparameters only, never on values of tensors: the engine batches the
    steps of many streams. Equal hyperparameters hash alike: an adapter is part of the key of a stream's state.
    `adapters.checks` holds all of this as checks for plugin authors.

    Two things make that batching cheap, both optional. A strategy that is linear in mean and variance subclasses
    `adapters.Linear`. Another may set ``batched = True`` and promise that ``step`` also takes leading axes, ``moments``
    ``[..., n, C]`` with state fields ``[..., *shape]``; otherwise `torch.func.vmap` adds them. It may override `queue`
    too, if it can do that with less than T steps' work.

    With ``reads_evidence`` a stream also gathers evidence from its answers, which ``moments.evidence`` holds; with
    ``reads_spread`` the engine measures the spreads of sites before the first step, once for a network.
    """

    batched: ClassVar[bool] = False
    reads_evidence: ClassVar[bool] = False
    reads_spread: ClassVar[bool] = False

    @abstractmethod
    def init(self, site: Site) -> State:
        """Return the state of a new stream at ``site``. A reset stream is a new stream."""

    @abstractmethod
    def step(self, site: Site, state: State, moments: Moments) -> tuple[Statistics, State]:
        """Return the statistics that normalize this request at ``site``, and the stream's state after it.

        ``moments`` holds the n >= 1 images of one request of one stream, and nothing else that shared the forward.
        """

    def leaning(self, site: Site, state: State, evidence: Evidence | None) -> Leaning | None:
        """Return the weights of what the next single image is normalized with; None if there are no such weights."""
        del site, state, evidence
        return None

    def queue(self, site: Site, state: State, moments: Moments) -> tuple[Statistics, State]:
        """Return the same for T successive requests of one stream, ``moments`` ``[T, ..., n, C]``."""
        return step_in_turn(self.step, site, state, moments)


Step = Callable[[Site, State, Moments], tuple[Statistics, State]]


def step_in_turn(step: Step[State], site: Site, state: State, moments: Moments) -> tuple[Statistics, State]:
    """Take a step for each request along the first axis of the moments; the statistics have one row per image."""
    statistics = []
    for mean, var in zip(moments.mean.unbind(0), moments.var.unbind(0), strict=True):
        part, state = step(site, state, moments._replace(mean=mean, var=var))
        statistics.append(Statistics(*part).expand_to(mean))
    return Statistics(*(torch.stack(parts) for parts in zip(*statistics, strict=True))), state


AnyAdapter = Adapter[Any]


class Nothing(NamedTuple):
    """The state of a strategy that remembers nothing.

    >>> Temperature(2.0).init(features=0, classes=10)
    Nothing()
    """


class Corrector(ABC, Generic[State]):
    """Base of corrections: a subclass is a frozen dataclass with two pure functions that refine a request's answers.

    It sees nothing of other streams. Neither function writes to its arguments, keeps anything or draws from a generator
    that no field seeds; what they return shares no memory with what they got. Equal hyperparameters hash alike.
    """

    features: ClassVar[bool] = False
    """True if it reads the input of the network's last layer, where that is linear."""
    scores_suffice: ClassVar[bool] = False
    """True if the logits may take the place of features that a network does not have."""
    last: ClassVar[bool] = False
    """True if its answers are no longer scores of the network, so that no other corrector can follow."""
    adapter: ClassVar[str] = "source"
    """The adapter to combine it with if the user names none."""

    @abstractmethod
    def init(self, features: int, classes: int) -> State:
        """Return the state of a new stream; ``features`` is 0 if the class does not need them."""

    @abstractmethod
    def correct(self, state: State, features: Tensor, logits: Tensor) -> tuple[Tensor, State]:
        """Return probabilities ``[n, classes]`` for one request of n >= 1 images, and the stream's state after it.

        ``features`` ``[n, d]`` float32 (``[n, 0]`` if the class does not need them), ``logits`` ``[n, classes]``
        float32, finite: the network's, or logarithms of the probabilities of the corrector before this one.
        """

    def is_active(self, state: State) -> bool | None:
        """Return whether it changes the answers of a stream in this state; None if that cannot be told."""
        del state
        return None

    @property
    def condition(self) -> str:
        """The condition under which it changes answers, as a clause: "predictions repeat"; empty if there is none."""
        return ""


class Start(NamedTuple):
    """The facts from which a learner makes its first state.

    >>> Tent().init(Start(affine=4, row=torch.zeros(2), image=torch.zeros(1, 3, 8, 8), classes=10)).affine
    tensor([0., 0., 0., 0.])
    """

    affine: int  # number of affine parameters the network's BatchNorm layers have: weights, then biases
    row: Tensor  # the adapter's state of a new stream
    image: Tensor  # [1, ...] an image as requests hold it
    classes: int


class Lesson(NamedTuple):
    """One answered request to learn from."""

    images: Tensor  # [n, ...] as the request held them: uint8 [n, H, W, 3] pixels, or the network's floating input
    logits: Tensor  # [n, classes] float32, the network's answer, before any corrector
    before: Tensor  # the adapter's state before the request
    after: Tensor  # the adapter's state after the request


class Network(Protocol):
    """The hosted network as a learner may use it; nothing about it can be changed."""

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[n, classes]`` float32 of images as requests hold them, and the adapter's state after them.

        The adapter takes its ordinary step from ``row``. ``affine`` ``[parameters]`` is *added* to the trained weights
        and biases; the logits can be differentiated with respect to it, through the statistics of the images as well.
        The new state is detached. Layers without an affine have none to add to.
        """
        ...


class Learner(ABC, Generic[State]):
    """Base of learners: a subclass is a frozen dataclass that moves a stream's own affine parameters, without labels.

    What is learned is the difference to the trained parameters, so all zeros is the network as it is hosted.
    Functions are pure; a field and the state seed what they draw from. Equal hyperparameters hash alike.
    """

    adapter: ClassVar[str] = "source"
    """The adapter to combine it with if the user names none."""

    @abstractmethod
    def init(self, start: Start) -> State:
        """Return the state of a new stream."""

    @abstractmethod
    def affine(self, state: State) -> Tensor:
        """Return the offsets that answers add to the trained weights and biases: ``[parameters]`` float32."""

    @abstractmethod
    def learn(self, state: State, lesson: Lesson, network: Network) -> tuple[State, Tensor]:
        """Return the stream's state after a lesson, and the adapter's, which is ``lesson.after`` or a new one."""

    def answering(self, adapter: AnyAdapter) -> AnyAdapter:
        """Return the adapter that answers requests: ``adapter`` itself, or one with states of the same shapes."""
        return adapter

    def lesson_images(self, images: int) -> int:
        """Return the images that a forward of a lesson has at most where the request has so many; it bounds memory."""
        return images


AnyCorrector = Corrector[Any]
AnyLearner = Learner[Any]
