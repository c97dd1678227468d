"""`renorm calibrate`: measure clean images, the reference of drift scores."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import options as o
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail, settings_from
from app.cli.startup import open_own_engine

if TYPE_CHECKING:
    from torch import Tensor

    from adapters import Baseline
    from app.errors import RenormError
    from app.settings import Settings

BASELINE_EXAMPLES = """\
Examples:

* `renorm calibrate --images clean/ --out baseline.safetensors`

* `renorm calibrate --images validation/ --model timm:resnet50 --out resnet50.safetensors`

* `renorm serve --model timm:resnet50 --baseline resnet50.safetensors`

The images need no labels: a few hundred clean ones of the training domain. Folders are read recursively; an `.npy` file
holds uint8 pixels `[N, height, width, 3]`.
"""

MIN_IMAGES = 32
"""The smallest number of images whose spread can be trusted."""

_HOSTING = ("model", "weights", "labels", "mean", "std", "size", "device", "dtype", "threads")

ImagesOption = Annotated[
    Path, typer.Option("--images", help="Folder of clean images, or an .npy file of pixels.", metavar="PATH")
]
OutOption = Annotated[Path, typer.Option("--out", help="Output file.", metavar="FILE")]
BatchOption = Annotated[int, typer.Option("--batch-size", help="Images per forward pass.", min=1, metavar="NUMBER")]


@o.with_settings(*_HOSTING)
def calibrate_baseline(
    images: ImagesOption,
    out: OutOption = Path("baseline.safetensors"),
    batch_size: BatchOption = 64,
    config: o.ConfigOption = None,
    **options: Any,
) -> None:
    """Measure clean images as the baseline of drift: drift is reported in units of their spread."""
    from app.baselines import save_baseline

    settings = settings_from({**options, "config": config})
    image_batches = _batches(images, batch_size)
    if (count := sum(len(batch) for batch in image_batches)) < MIN_IMAGES:
        fail(f"{images} contains {count} images; at least {MIN_IMAGES} are needed", status=BAD_OPTION)
    model, baseline = asyncio.run(_measure(settings, image_batches, count))
    try:
        save_baseline(baseline, out, model, count)
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror or error}", status=CANNOT_RUN)
    typer.echo(f"Measured {count:,} images on {model}: {out}. Use it with `renorm serve --baseline {out}`.")


def _batches(path: Path, size: int) -> Sequence[Sequence[Path] | Tensor]:
    """Return the images in batches of ``size``: paths, or pixels."""
    import numpy as np
    import torch

    from app.client.errors import InvalidInput
    from app.client.folders import SUFFIXES, batches, image_files

    if path.suffix == ".npy":
        try:
            pixels = np.load(path, mmap_mode="c")
        except (OSError, ValueError) as error:
            fail(f"{path} cannot be read: {error}", status=BAD_OPTION)
        return torch.split(torch.from_numpy(np.ascontiguousarray(pixels)), size)
    try:
        files = [file for file in image_files(path, "**/*") if file.suffix.lower() in SUFFIXES]
    except InvalidInput as error:
        fail(str(error), status=BAD_OPTION)
    return batches(files, size)


async def _measure(
    settings: Settings, image_batches: Sequence[Sequence[Path] | Tensor], count: int
) -> tuple[str, Baseline]:
    import torch

    from adapters import fit_baseline
    from app.client.folders import bar
    from app.errors import RenormError

    engine = await open_own_engine(settings.model_copy(update={"strategy": "source", "max_images": sys.maxsize}))
    try:
        with bar(count, visible=True) as advance:
            measured = []
            for batch in image_batches:
                measured.append(await engine.moments(_content(batch)))
                advance(len(batch))
        return engine.hosted.name, fit_baseline(torch.cat(measured))
    except RenormError as error:
        fail(f"{_name(batch, error)}: {error.message}", status=CANNOT_RUN)
    finally:
        await engine.close()


def _name(batch: Sequence[Path] | Tensor, error: RenormError) -> str:
    """Return the name of the file that the error is about."""
    if error.image is None:
        return error.location or "the images"
    item = batch[error.image]
    return str(item) if isinstance(item, Path) else f"images[{error.image}]"


def _content(batch: Sequence[Path] | Tensor) -> list[bytes] | Tensor:
    import torch

    return batch if isinstance(batch, torch.Tensor) else [path.read_bytes() for path in batch]
