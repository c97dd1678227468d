"""Weights from a file into a network, without ever running code from the file."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from app.errors import ModelError

_WRAPPERS = ("state_dict", "model")
_SHOWN = 3


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict into ``network``, every key and shape of which must fit.

    Taken are .safetensors, and .pt or .pth read with ``weights_only``. A dict nested under "state_dict" or "model" is
    unwrapped, and a "module." that `DataParallel` put before each key is stripped.

    Raises:
        ModelError: no such file, a type that is not taken, pickled code, or tensors that do not fit.
    """
    state = _without_prefix(_tensors(_read(path), path), network)
    _check_fit(network, state, path)
    try:
        # What may be missing after the check is num_batches_tracked, which nothing here reads.
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the weights {path} do not fit the network: {error}") from error


def _read(path: Path) -> object:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ModelError(
            f"weights of type '{path.suffix}' are not taken: {path}", hint=f"expected one of {', '.join(_READERS)}"
        )
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}", hint="check the path given with --weights")
    try:
        return read(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"the weights {path} hold pickled code, which is not run, or are not a file of torch.save",
            hint="save the tensors alone: torch.save(network.state_dict(), FILE), or write safetensors",
        ) from error
    except Exception as error:
        raise ModelError(f"the weights {path} cannot be read: {error}", hint="check that the file is whole") from error


def _read_torch(path: Path) -> object:
    loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


_READERS: dict[str, Callable[[Path], object]] = {".safetensors": load_file, ".pt": _read_torch, ".pth": _read_torch}


def _tensors(loaded: object, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelError(
            f"the weights {path} are not a state dict, a mapping from names to tensors",
            hint="save them with torch.save(network.state_dict(), FILE), or write safetensors",
        )
    return {str(key): value for key, value in loaded.items()}


def _without_prefix(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    prefix = "module."
    if not all(key.startswith(prefix) for key in state) or any(key.startswith(prefix) for key in network.state_dict()):
        return state
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _check_fit(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    expected = network.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    misshaped = [
        f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    if any(problems.values()):
        told = "; ".join(f"{len(keys)} {what}: {_first(keys)}" for what, keys in problems.items() if keys)
        raise ModelError(
            f"the weights {path} do not fit the network: {told}",
            hint="give the weights of exactly this architecture and number of classes",
        )


def _first(keys: Iterable[str]) -> str:
    shown = list(keys)
    return ", ".join(shown[:_SHOWN]) + (" ..." if len(shown) > _SHOWN else "")
