"""Where the hosted network runs, and in which type."""

from __future__ import annotations

import torch

from app.errors import ModelError

TYPES = {"float32": None, "bfloat16": torch.bfloat16}
"""What --dtype may say, and the type that weights and activations get; None leaves them as they are."""


def device_of(wanted: str) -> torch.device:
    """The device that ``wanted`` means: auto, cpu, cuda or cuda:NUMBER; auto takes a GPU where there is one.

    Raises:
        ModelError: this machine, or this build of PyTorch, does not have it.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if found else "cpu") if wanted == "auto" else wanted)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ModelError(
            f"there is no device {wanted}: torch {torch.__version__} finds {found} GPU{'s' * (found != 1)}",
            hint="install the build of PyTorch for your GPU's driver, or choose --device cpu",
        )
    # With its number, because tensors on the GPU say it too, and 'cuda' alone is another device to torch.
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device
