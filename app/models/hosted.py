"""The hosted model that every source delivers: a network, its classes and its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from adapters import Baseline
from app.images.preprocessing import CROPS, INTERPOLATIONS, Preprocessing

__all__ = ["CROPS", "INTERPOLATIONS", "Hosted", "Preprocessing"]


@dataclass(frozen=True, eq=False)
class Hosted:
    """A model ready to be served. ``network`` maps ``[n, channels, height, width]`` to logits ``[n, len(classes)]``.

    The engine takes the network over and may change its form; ``parameters`` are counted before.
    """

    name: str
    network: nn.Module
    classes: list[str]
    preprocessing: Preprocessing
    architecture: str
    card: str  # a few sentences or a model card: data, recipe, accuracy, intended use; may be empty
    class_ids: tuple[str, ...] = ()  # WordNet's, one for each class; empty where the labels have none
    baseline: Baseline | None = None  # of drift; None: assumed from the trained statistics
    source: str = ""  # the model as settings name it, where that is not its name
    weights: str = ""  # those of --weights: a line for messages
    notes: tuple[str, ...] = ()  # findings of the check at start-up
    parameters: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", self.source or self.name)
        object.__setattr__(self, "parameters", sum(parameter.numel() for parameter in self.network.parameters()))
