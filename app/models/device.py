"""The device and the dtype of the hosted network."""

from __future__ import annotations

import torch

from app.errors import ModelError

TYPES = {"float32": None, "bfloat16": torch.bfloat16}
"""Values of --dtype, and the dtype of weights and activations; None leaves them unchanged."""


def device_of(name: str) -> torch.device:
    """Return the device called ``name``: auto, cpu, cuda or cuda:NUMBER; auto prefers a GPU.

    Raises:
        ModelError: this machine, or this build of PyTorch, does not have it.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if count else "cpu") if name == "auto" else name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ModelError(
            f"device {name} is not available: torch {torch.__version__} finds {count} GPU{'s' * (count != 1)}",
            hint="install the build of PyTorch for your GPU's driver, or choose --device cpu",
        )
    # With its number, because torch takes 'cuda' and 'cuda:0' for different devices.
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device
