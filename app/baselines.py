"""Baselines of drift in files: the moments of clean images that `renorm calibrate` measures and the server reads."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapters import Baseline
from app.errors import ModelError

_AGAIN = "measure it again: renorm calibrate --images FOLDER --out FILE"


def save_baseline(baseline: Baseline, path: Path, model: str, images: int) -> None:
    """Write a baseline as safetensors, with the model that it is of and how many images it was measured on.

    Raises:
        OSError: the file cannot be written.
    """
    about = {"renorm": "baseline", "model": model, "images": str(images)}
    save_file({"mean": baseline.mean, "spread": baseline.spread}, path, metadata=about)


def load_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        ModelError: there is no such file, or it holds no baseline.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the baseline {path} cannot be read: {error}", hint=_AGAIN) from error
    if tensors.keys() != {"mean", "spread"}:
        raise ModelError(f"{path} holds no baseline but {', '.join(sorted(tensors)) or 'nothing'}", hint=_AGAIN)
    baseline = Baseline(tensors["mean"].float(), tensors["spread"].float())
    finite = all(bool(part.isfinite().all()) for part in baseline)
    if baseline.mean.dim() != 1 or baseline.mean.shape != baseline.spread.shape or not finite:
        raise ModelError(f"the baseline {path} holds numbers that cannot be one", hint=_AGAIN)
    if not bool((baseline.spread > 0).all()):
        raise ModelError(f"the baseline {path} has spreads that are not positive", hint=_AGAIN)
    return baseline
