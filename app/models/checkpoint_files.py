"""Read a file of weights: safetensors or a file of torch.save, recognized by content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from app.errors import ModelError
from app.models.file_kinds import EXPORT, check_kind, is_safetensors
from app.models.inert import PickledCodeError, read_torch


def read_checkpoint(path: Path) -> object:
    """Return the content of a file; objects that are neither tensors nor built-in types are left as placeholders.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or one that would run code.
    """
    head = check_kind(path)
    if is_safetensors(head):
        return _read_safetensors(path)
    try:
        return read_torch(path)
    except PickledCodeError as error:
        raise ModelError(
            f"the weights {path} contain pickled code, which is not run: {error.name}", hint=EXPORT
        ) from None
    except Exception:
        raise _unreadable(path, head) from None


def _unreadable(path: Path, head: bytes) -> ModelError:
    """One line; the message of torch would advise to read the file without ``weights_only``."""
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        return ModelError(
            f"the weights {path} are in an unknown format: they begin with the bytes {head[:8].hex(' ')}", hint=EXPORT
        )
    return ModelError(f"the weights {path} are damaged or cut short", hint="copy or download the file again")


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            aliases = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        hint = "copy or download the file again"
        raise ModelError(f"the weights {path} are damaged or cut short: {error}", hint=hint) from error
    # `safetensors.torch.save_model` writes a tensor with two names once, and the other name into the metadata.
    return tensors | {
        name: tensors[saved] for name, saved in aliases.items() if saved in tensors and name not in tensors
    }
