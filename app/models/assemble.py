"""The last steps all sources share: the user's overrides, frozen parameters, and one forward to see it fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from app.errors import ModelError
from app.models.hosted import Hosted, Preprocessing
from app.models.labels import ClassNames, read_class_names
from app.settings import Settings


def assemble(
    network: nn.Module,
    settings: Settings,
    *,
    name: str,
    preprocessing: Preprocessing,
    classes: Sequence[str] | ClassNames | None,
    architecture: str,
    card: str = "",
    weights: str = "",
) -> Hosted:
    """Make a loaded network ready to be served; ``classes`` None gives "class 0", "class 1" ... unless labels are set.

    Raises:
        ModelError: preprocessing, network and class names do not fit together.
    """
    preprocessing = overridden(preprocessing, settings)
    network.eval().requires_grad_(False)
    outputs = count_outputs(network, preprocessing.size)
    names = _class_names(classes, outputs, settings)
    return Hosted(
        settings.name or path_name(name),
        network,
        list(names.names),
        preprocessing,
        architecture,
        card,
        names.ids,
        source=settings.model,
        weights=weights,
    )


def path_name(name: str) -> str:
    """A model's name as one part of a path: what URLs would encode becomes a dash."""
    return re.sub(r"[^A-Za-z0-9._:-]+", "-", name).strip("-.") or "model"


def overridden(preprocessing: Preprocessing, settings: Settings) -> Preprocessing:
    """The preprocessing with --size, --mean and --std in place; the part of the image that is cut out stays the same.

    Raises:
        ModelError: a mean that is not finite or a deviation that is not positive.
    """
    size = settings.size or preprocessing.size
    try:
        return replace(
            preprocessing,
            size=size,
            resize=size * preprocessing.resize // preprocessing.size,
            mean=settings.mean or preprocessing.mean,
            std=settings.std or preprocessing.std,
        )
    except ValueError as error:
        raise ModelError(f"the preprocessing is impossible: {error}", hint="check --mean and --std") from error


def count_outputs(network: nn.Module, size: int) -> int:
    """How many classes the network tells apart, by one forward of zeros ``[1, 3, size, size]``.

    Raises:
        ModelError: it fails, or answers anything but logits ``[1, classes]``.
    """
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, 3, size, size))
    except Exception as error:
        raise ModelError(
            f"the network fails on one RGB image of {size} x {size} pixels: {type(error).__name__}: {error}",
            hint="give the side it was trained for with --size; its input must be float32 [n, 3, size, size]",
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1 or logits.shape[1] == 0:
        got = f"a tensor of shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"the network answers one image with {got}, expected logits of shape [1, classes]",
            hint="wrap it in a module whose forward returns the logits alone",
        )
    return logits.shape[1]


def _class_names(classes: Sequence[str] | ClassNames | None, outputs: int, settings: Settings) -> ClassNames:
    if settings.labels is not None:
        found, origin = read_class_names(settings.labels), str(settings.labels)
    elif classes is not None:
        found = classes if isinstance(classes, ClassNames) else ClassNames(tuple(classes))
        origin = "the model's description"
    else:
        return ClassNames(tuple(f"class {i}" for i in range(outputs)))
    if len(found.names) != outputs:
        raise ModelError(
            f"{origin} names {len(found.names)} classes, but the network has {outputs} outputs",
            hint="give one name per output, in order, with --labels",
        )
    return found
