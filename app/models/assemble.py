"""The last steps that all sources share: overrides by settings, frozen parameters, and a check by one forward."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from app.errors import ModelError
from app.images.preprocessing import Sides, pair
from app.models.hosted import Hosted, Preprocessing
from app.models.labels import ClassNames, read_class_names
from app.models.startup_check import try_network
from app.settings import Settings

log = logging.getLogger("renorm")


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
    preprocessing = with_overrides(_to_grey(preprocessing) if takes_grey(network) else preprocessing, settings)
    trial = try_network(network.eval(), preprocessing)
    trial.network.requires_grad_(False)
    if trial.casts and settings.dtype != "float32":
        raise ModelError(
            f"the network cannot run in {settings.dtype}: its forward converts its input to another dtype",
            hint="leave out --dtype: it runs in its own dtypes",
        )
    names = _class_names(classes, trial.classes, settings, is_binary=trial.is_binary)
    for note in trial.notes:
        log.warning("%s: %s", settings.model, note)
    return Hosted(
        settings.name or path_name(name),
        trial.network,
        list(names.names),
        preprocessing,
        architecture,
        card,
        names.ids,
        source=settings.model,
        weights=weights,
        notes=trial.notes,
    )


def path_name(name: str) -> str:
    """Return a model's name as one part of a URL path: other characters become a dash."""
    return re.sub(r"[^A-Za-z0-9._:-]+", "-", name).strip("-.") or "model"


def takes_grey(network: nn.Module) -> bool:
    """Tell whether a network takes grey images: its first convolution has one input channel."""
    kinds = nn.Conv1d, nn.Conv2d, nn.Conv3d
    first = next((module for module in network.modules() if isinstance(module, kinds)), None)
    return first is not None and first.in_channels == 1


def _to_grey(preprocessing: Preprocessing) -> Preprocessing:
    if preprocessing.channels == 1:
        return preprocessing
    mean, std = (round(sum(values) / 3, 4) for values in (preprocessing.mean, preprocessing.std))
    return replace(preprocessing, mean=(mean,), std=(std,))


def with_overrides(preprocessing: Preprocessing, settings: Settings) -> Preprocessing:
    """Return the preprocessing with --size, --mean and --std applied; the share of the image that is cropped stays.

    Raises:
        ModelError: a mean that is not finite or a deviation that is not positive.
    """
    size = settings.size or preprocessing.size
    try:
        return replace(
            preprocessing,
            size=size,
            resize=_scaled_resize(size, preprocessing),
            mean=settings.mean or preprocessing.mean,
            std=settings.std or preprocessing.std,
        )
    except ValueError as error:
        raise ModelError(f"the preprocessing is not valid: {error}", hint="check --mean and --std") from error


def _scaled_resize(size: Sides, preprocessing: Preprocessing) -> Sides:
    """Return the sides to resize to, so that the crop keeps its share of the image."""
    height, width = (
        side * resize // part
        for side, resize, part in zip(pair(size), pair(preprocessing.resize), pair(preprocessing.size), strict=True)
    )
    return height if height == width else (height, width)


def _class_names(
    classes: Sequence[str] | ClassNames | None, outputs: int, settings: Settings, *, is_binary: bool
) -> ClassNames:
    if settings.labels is not None:
        names, origin = read_class_names(settings.labels), str(settings.labels)
    elif classes is not None:
        names = classes if isinstance(classes, ClassNames) else ClassNames(tuple(classes))
        origin = "the model"
    else:
        return ClassNames(tuple(f"class {i}" for i in range(outputs)))
    if is_binary and len(names.names) == 1:
        return ClassNames((f"not {names.names[0]}", names.names[0]))
    if len(names.names) != outputs:
        raise ModelError(
            f"{origin} has {len(names.names)} class names, but the network has {outputs} outputs",
            hint="pass one name per output, in order, with --labels"
            + (", without it and with it, or the one name alone" if is_binary else ""),
        )
    return names
