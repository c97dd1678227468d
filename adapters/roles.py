"""The contract of what a strategy may add to its adapter: a corrector of answers, a learner of affine parameters."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from torch import Tensor

State = TypeVar("State", bound=tuple[Any, ...])
"""What a corrector or a learner remembers of one stream: a NamedTuple of tensors of any type."""


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
