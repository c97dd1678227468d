"""The contract of what a strategy is made of: adapters, and the correctors and learners that may go with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

State = TypeVar("State", bound=tuple[Any, ...])
"""The memory of one stream: a NamedTuple of tensors; of an adapter, at a site, float32 of shapes fixed by the site."""


class Moments(NamedTuple):
    """What one request showed at a site: each image's own mean and variance over its positions.

    Variances are biased (divided by the number of positions) everywhere in Renorm. By the law of total variance
    these moments hold the batch statistics exactly: see `pooled`.
    """

    mean: Tensor  # [n, C] float32
    var: Tensor  # [n, C] float32, biased
    pixels: int  # positions behind each entry: H*W, or 1 for BatchNorm1d on [N, C]

    @property
    def images(self) -> int:
        """How many images the request has: n."""
        return self.mean.shape[-2]

    @property
    def values(self) -> int:
        """How many values stand behind each pooled channel: n * pixels. Fewer than two show no variance."""
        return self.images * self.pixels

    def pooled(self, *, unbiased: bool = False) -> Statistics:
        """Statistics of the request as a whole, ``[C]``: ``mean = E[m_n]``, ``var = E[v_n] + Var[m_n]``.

        ``unbiased`` multiplies the variance by ``values / (values - 1)``, as code built on ``running_var`` does.
        """
        mean = self.mean.mean(-2)
        # The centred form: the difference of squares cancels when the mean is large beside the deviation.
        var = self.var.mean(-2) + (self.mean - mean.unsqueeze(-2)).square().mean(-2)
        return Statistics(mean, var * (self.values / (self.values - 1)) if unbiased else var)


class Statistics(NamedTuple):
    """What is used to normalize, or remembered: one row ``[C]``, or one per image ``[n, C]``."""

    mean: Tensor
    var: Tensor

    def toward(self, other: Statistics, weight: float | Tensor) -> Statistics:
        """The step ``self + weight * (other - self)``: 0 stays here, 1 arrives."""
        return Statistics(self.mean + weight * (other.mean - self.mean), self.var + weight * (other.var - self.var))


@dataclass(frozen=True, eq=False)
class Site:
    """One BatchNorm position of a network with what training left there. Never written to.

    ``name`` is the module's dotted name; a module called more than once in a forward is one site per call, the
    later ones named ``name#2``, ``name#3`` and so on, because each call sees activations of its own.
    """

    name: str
    mean: Tensor  # [C] float32, the trained running mean
    var: Tensor  # [C] float32, the trained running variance
    weight: Tensor  # [C] float32, ones where the layer has no affine
    bias: Tensor  # [C] float32, zeros where the layer has no affine
    eps: float
    row: Tensor = field(init=False, repr=False)  # [1, 2C], the trained mean and variance side by side

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", torch.cat([self.mean, self.var])[None])

    @property
    def channels(self) -> int:
        """How many channels the site normalizes: C."""
        return self.mean.shape[0]

    @property
    def trained(self) -> Statistics:
        """The statistics of the training data, which `source` normalizes with."""
        return Statistics(self.mean, self.var)


class Adapter(Protocol[State]):
    """A normalization method: a frozen dataclass of hyperparameters with two pure functions.

    Both functions may be called from any thread, for any stream, in any order; they neither write to their
    arguments nor keep anything. Branch on shapes and hyperparameters only, never on values of tensors: the engine
    batches the steps of many streams. `adapters.checks` holds all of this as checks for plugin authors.

    There are two ways to make that batching cheap, both optional. A strategy that is linear in mean and variance
    subclasses `adapters.Linear`. Another may set the class attribute ``batched = True`` and promise that ``step`` also
    takes leading axes, ``seen`` ``[..., n, C]`` with state fields ``[..., *shape]``; otherwise `torch.func.vmap` adds
    them. Such a one may also have a method ``queue(site, state, seen)``, the steps of T requests of which each
    continues the one before, ``seen`` ``[T, ..., n, C]``, if it can do that with less than T steps' work.
    """

    def __hash__(self) -> int:
        """Equal hyperparameters hash alike: an adapter is part of the key of a stream's state."""
        ...

    def init(self, site: Site) -> State:
        """What a new stream remembers at ``site``. A reset stream is a new stream."""
        ...

    def step(self, site: Site, state: State, seen: Moments) -> tuple[Statistics, State]:
        """The statistics that normalize this request at ``site``, and what the stream remembers after it.

        ``seen`` holds the n >= 1 images of one request of one stream, and nothing else that shared the forward.
        """
        ...


AnyAdapter = Adapter[Any]


class Nothing(NamedTuple):
    """The state of a strategy that remembers nothing."""


def rate(momentum: float, images: int, reference: int | None) -> float:
    """The weight of a request of n images: ``1 - (1 - momentum) ** (n / reference)``, or ``momentum`` as it is.

    With a ``reference`` the horizon is counted in images, so one request of 64 moves the state about as far as 64
    requests of one (UnMix-TNS, Tomar et al. 2024, batch-size correction, from the request's actual n).
    """
    if reference is None:
        return momentum
    kept: float = (1.0 - momentum) ** (images / reference)
    return 1.0 - kept


class Corrector(Protocol[State]):
    """A frozen dataclass of hyperparameters that refines the answers of one request, with two pure functions.

    Nothing of other streams is ever shown to it. Neither function writes to its arguments, keeps anything or draws from
    a generator that is not seeded by a field; what they return shares no memory with what they were given.

    A corrector that reads features says so with the class attribute ``features = True``: the network must then end in a
    linear layer, whose input they are. One whose answers are no longer scores of the network, so that no other
    corrector can go on from them, sets ``last = True``. ``adapter`` names the normalization that it goes with where a
    user names none; ``source`` if it is left out.
    """

    def __hash__(self) -> int:
        """Equal hyperparameters hash alike: they are part of the key of a stream's state."""
        ...

    def init(self, features: int, classes: int) -> State:
        """What a new stream remembers, where a network has that many features (0: not asked for) and classes."""
        ...

    def correct(self, state: State, features: Tensor, logits: Tensor) -> tuple[Tensor, State]:
        """Probabilities ``[n, classes]`` for one request of n >= 1 images, and what the stream remembers after it.

        ``features`` ``[n, d]`` float32 (``[n, 0]`` where the class does not ask for them), ``logits`` ``[n, classes]``
        float32, finite: the network's, or logarithms of the probabilities of the corrector before this one.
        """
        ...


class Start(NamedTuple):
    """What a learner's first state is made from."""

    affine: int  # how many affine parameters the network's BatchNorm layers have: weights, then biases
    row: Tensor  # the adapter's state of a new stream
    image: Tensor  # [1, ...] an image as requests hold it
    classes: int


class Lesson(NamedTuple):
    """One answered request, to be learned from."""

    images: Tensor  # [n, ...] as the request held them: uint8 [n, H, W, 3] pixels, or the network's floating input
    logits: Tensor  # [n, classes] float32, the network's answer, before any corrector
    before: Tensor  # the adapter's state that the request met
    after: Tensor  # the adapter's state that it left


class Network(Protocol):
    """The hosted network as a learner may use it; nothing about it can be changed."""

    def __call__(self, images: Tensor, row: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[n, classes]`` float32 of images as requests hold them, and the adapter's state after them.

        The adapter takes its ordinary step from ``row``. ``affine`` ``[parameters]`` is *added* to the trained weights
        and biases; the logits can be differentiated with respect to it, through the statistics of the images as well.
        The new state is detached. Layers without an affine have none to add to.
        """
        ...


class Learner(Protocol[State]):
    """A frozen dataclass of hyperparameters that moves a stream's own affine parameters, without labels.

    A learner whose forwards are not of the request's images says with ``lesson_images(images: int) -> int`` how many
    they can have at most where the request has so many; a host bounds its memory by that.

    What is learned is the difference to the trained parameters, so all zeros is the network as it is hosted.
    Functions are pure, and draw only from generators seeded by a field and by the state. ``adapter`` names the
    normalization that it goes with where a user names none.
    """

    adapter: ClassVar[str]

    def __hash__(self) -> int:
        """Equal hyperparameters hash alike: they are part of the key of a stream's state."""
        ...

    def init(self, start: Start) -> State:
        """What a new stream remembers."""
        ...

    def affine(self, state: State) -> Tensor:
        """What answers add to the trained weights and biases: ``[parameters]`` float32."""
        ...

    def answering(self, adapter: Any) -> Any:
        """The adapter that requests are answered with: itself, or one with states of the same shapes."""
        ...

    def learn(self, state: State, lesson: Lesson, network: Network) -> tuple[State, Tensor]:
        """What the stream remembers after a lesson, and the adapter's state, which is ``lesson.after`` or a new one."""
        ...


AnyCorrector = Corrector[Any]
AnyLearner = Learner[Any]
