"""The size of a stream's state, which is known after the first forward of a network."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from adapters.base import Start
from adapters.composite import Composite
from adapters.errors import InputError
from adapters.state.memory import Layout, bytes_of, drift_bytes, initial_state


class NetworkShape(NamedTuple):
    """The number of features and classes of a network, and an image as requests hold it."""

    features: int  # 0 where it does not end in a linear layer
    classes: int
    image: Tensor  # [1, ...]
    channels: int  # of the first site that a forward reaches


def state_bytes(strategy: Composite, layout: Layout, affine: int, shape: NetworkShape | None) -> int:
    """Return the bytes that a stream's state takes, see `adapters.AdaptiveModel.state_bytes`.

    ``layout`` is that of the adapter's state, ``affine`` the number of affine parameters.
    """
    drift = 0 if shape is None else drift_bytes(shape.channels)
    if strategy.is_single:
        return layout.row.nbytes + drift
    if shape is None:
        raise InputError("the size of the states of learners and correctors is unknown: run the network once first")
    start = Start(affine, layout.row, shape.image, shape.classes)
    states = [] if strategy.learner is None else [strategy.learner.init(start)]
    for corrector in strategy.correctors:
        features = (shape.features or shape.classes) if corrector.features else 0
        states.append(initial_state(corrector, features, shape.classes, layout.row.device))
    return layout.row.nbytes + drift + bytes_of(tuple(states))
