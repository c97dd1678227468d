"""``timm:NAME``: any image classifier of timm, with its own classes and preprocessing."""

from __future__ import annotations

import difflib
import importlib
import math
import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from app.errors import ModelError
from app.models.assemble import assemble
from app.models.hosted import Hosted, Preprocessing
from app.models.labels import ClassNames, read_class_names
from app.models.weights import load_weights
from app.settings import Settings


def load_timm(name: str, settings: Settings) -> Hosted:
    """Create timm's model ``name`` with its pretrained weights, or with those of --weights.

    With --weights and --labels the head gets one output per label, so that fine-tuned weights fit.

    Raises:
        ModelError: timm is not installed or does not import, there is no such model, or its weights cannot be had.
    """
    timm = _import_timm()
    # Names with a colon lead to a model hub or a folder, which only timm can look into.
    if ":" not in name and not timm.is_model(name):
        raise _unknown_name_error(timm, name)
    network = _create_network(timm, name, settings)
    config: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    weights = "" if settings.weights is None else load_weights(network, settings.weights, settings.weights_key)
    return assemble(
        network,
        settings,
        name=f"timm:{name}",
        preprocessing=_preprocessing(timm, network),
        classes=_classes(timm, network, config),
        architecture=str(config.get("architecture") or type(network).__name__),
        card=_card(name, config) if settings.weights is None else "",
        weights=weights,
    )


def _import_timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModelError(
            f"timm models need the package '{error.name}', which is not installed", hint="pip install 'renorm[timm]'"
        ) from error
    except Exception as error:
        raise ModelError(
            f"timm cannot be imported: {error}",
            hint=f"install the torchvision that was built for torch {torch.__version__}, from where torch came from",
        ) from error


def _unknown_name_error(timm: ModuleType, name: str) -> ModelError:
    close = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], n=5)
    hint = f"similar names: {', '.join(close)}" if close else "timm.list_models() lists all names"
    return ModelError(f"timm {timm.__version__} has no model '{name}'", hint=hint)


def _create_network(timm: ModuleType, name: str, settings: Settings) -> nn.Module:
    pretrained = settings.weights is None
    labels = None if pretrained else settings.labels
    classes = None if labels is None else len(read_class_names(labels).names)
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=classes)
    except Exception as error:
        if "Invalid pretrained tag" in str(error):
            raise _unknown_name_error(timm, name) from error
        problem = "its pretrained weights cannot be loaded" if pretrained else "it cannot be created"
        hint = "connect to the model hub, or pass the weights with --weights FILE" if pretrained else ""
        raise ModelError(f"timm model '{name}': {problem}: {type(error).__name__}: {error}", hint=hint) from error
    if network.num_classes == 0:
        raise ModelError(f"timm model '{name}' has no classifier", hint="choose a model trained for classification")
    return network


def _preprocessing(timm: ModuleType, network: nn.Module) -> Preprocessing:
    config = timm.data.resolve_model_data_config(network)
    size = config["input_size"][-1]
    try:
        return Preprocessing(
            size,
            math.floor(size / config["crop_pct"]),
            config["interpolation"],
            config["mean"],
            config["std"],
            config["crop_mode"] or "center",
        )
    except ValueError as error:
        raise ModelError(f"timm's preprocessing of this model is not supported: {error}") from error


def _classes(timm: ModuleType, network: nn.Module, config: Mapping[str, Any]) -> ClassNames | None:
    names = list(config.get("label_names") or [])
    if len(names) == network.num_classes:
        described = config.get("label_descriptions") or {}
        return ClassNames(tuple(str(described.get(name, name)) for name in names), _word_net(names))
    subset = timm.data.infer_imagenet_subset(network)
    if not subset:
        return None
    info = timm.data.ImageNetInfo(subset)
    return ClassNames(tuple(info.label_descriptions()), _word_net(info.label_names()))


def _word_net(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names) if all(re.fullmatch(r"n\d{8}", name) for name in names) else ()


def _card(name: str, config: Mapping[str, Any]) -> str:
    """Return timm's facts about the weights, a line each."""
    fields = {
        "description": config.get("description"),
        "license": config.get("license"),
        "paper": config.get("paper_name"),
        "origin": config.get("origin_url"),
        "weights": config.get("hf_hub_id") or config.get("url"),
    }
    return "\n".join([f"{name} of timm", *(f"{key}: {value}" for key, value in fields.items() if value)])
