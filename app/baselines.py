"""Baselines of drift in files: the moments of clean images that `renorm calibrate` measures and the server reads."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapters import Baseline
from app.errors import ModelError

_HINT = "measure it again: renorm calibrate --images FOLDER --out FILE"


def save_baseline(baseline: Baseline, path: Path, model: str, images: int) -> None:
    """Write a baseline as safetensors, with its model and the number of images it was measured on.

    Raises:
        OSError: the file cannot be written.
    """
    metadata = {"renorm": "baseline", "model": model, "images": str(images)}
    save_file({"mean": baseline.mean, "spread": baseline.spread}, path, metadata=metadata)


def load_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        ModelError: the file is missing, or is not a baseline.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the baseline {path} cannot be read: {error}", hint=_HINT) from error
    if tensors.keys() != {"mean", "spread"}:
        raise ModelError(
            f"{path} is not a baseline: it contains {', '.join(sorted(tensors)) or 'no tensors'}", hint=_HINT
        )
    baseline = Baseline(tensors["mean"].float(), tensors["spread"].float())
    is_finite = all(bool(tensor.isfinite().all()) for tensor in baseline)
    if baseline.mean.dim() != 1 or baseline.mean.shape != baseline.spread.shape or not is_finite:
        raise ModelError(
            f"the baseline {path} is invalid: mean and spread must be finite vectors of one length", hint=_HINT
        )
    if not bool((baseline.spread > 0).all()):
        raise ModelError(f"the baseline {path} is invalid: spreads must be positive", hint=_HINT)
    return baseline
