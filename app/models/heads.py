"""Networks whose output is not logits ``[n, classes]``, wrapped so that it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from app.errors import ModelError

NAMES = ("logits", "out", "output", "pred", "preds", "prediction", "predictions", "scores", "cls")
"""Names that the one tensor to serve has, where there are several of its form; the first that is there counts."""

SMALLEST = 1e-30


class Selected(nn.Module):
    """A network of whose outputs one is served."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, images: Tensor) -> Tensor:
        """The one output."""
        return tensors_of(self.network(images))[self.name]


class Logarithm(nn.Module):
    """A network that answers probabilities: their logarithms are logits, whose softmax gives them back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, classes]``."""
        probabilities: Tensor = self.network(images).float()
        return probabilities.clamp_min(SMALLEST).log()


class Binary(nn.Module):
    """A network with one output for its one class, made into two classes: without it and with it.

    The output is the logit of the class, or with ``probability`` what a sigmoid has made of it.
    """

    def __init__(self, network: nn.Module, *, probability: bool) -> None:
        super().__init__()
        self.network, self.probability = network, probability

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, 2]``."""
        output: Tensor = self.network(images).float()
        output = output.view(len(output), 1)
        if self.probability:
            return torch.cat([1 - output, output], 1).clamp_min(SMALLEST).log()
        return torch.cat([torch.zeros_like(output), output], 1)


def find_logits(output: object, images: int) -> tuple[Tensor, str]:
    """The scores ``[images, classes]`` in what a network answers, and their name; none where it answers them alone.

    Raises:
        ModelError: there is no such tensor, or several without a name that decides.
    """
    if isinstance(output, Tensor):
        if output.shape == (images,):
            return output.view(images, 1), ""
        if output.ndim == 2 and len(output) == images and output.shape[1] > 0:
            return output, ""
        raise _refusal(f"a tensor of shape {list(output.shape)}", images)
    tensors = tensors_of(output)
    fitting = {name: t for name, t in tensors.items() if t.ndim == 2 and len(t) == images and t.is_floating_point()}
    chosen = [name for name in NAMES if name in fitting] or list(fitting)
    if not chosen or (len(fitting) > 1 and chosen[0] not in NAMES):
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise _refusal(f"{type(output).__name__} ({shapes or 'no tensors'})", images)
    return fitting[chosen[0]], chosen[0]


def tensors_of(output: object) -> dict[str, Tensor]:
    """The tensors of a tuple, list, mapping or dataclass, by name or by place."""
    items: Mapping[Any, Any]
    if isinstance(output, Mapping):
        items = output
    elif isinstance(output, tuple | list):
        items = dict(zip(getattr(output, "_fields", range(len(output))), output, strict=True))
    elif is_dataclass(output) and not isinstance(output, type):
        items = {field.name: getattr(output, field.name) for field in fields(output)}
    else:
        items = {}
    return {str(name): value for name, value in items.items() if isinstance(value, Tensor)}


def _refusal(answer: str, images: int) -> ModelError:
    return ModelError(
        f"the network answers {images} images with {answer}, expected logits of shape [{images}, classes]",
        hint="wrap it in a module whose forward returns the logits alone",
    )
