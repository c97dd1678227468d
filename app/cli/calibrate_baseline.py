"""`renorm calibrate`: measure clean images, the zero and the unit of drift."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import options as o
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail, settings_from
from app.cli.startup import open_engine

if TYPE_CHECKING:
    from torch import Tensor

    from adapters import Baseline
    from app.settings import Settings

BASELINE_EXAMPLES = """\
Examples:

* `renorm calibrate --images clean/ --out baseline.safetensors`

* `renorm calibrate --images validation/ --model timm:resnet50 --out resnet50.safetensors`

* `renorm serve --model timm:resnet50 --baseline resnet50.safetensors`

The images need no labels: some hundred that the model was trained for, in good light and weather. Folders are read with
all that is in them; a file `.npy` holds uint8 pixels `[N, height, width, 3]`.
"""

LEAST = 32
"""Images below which a spread is not to be trusted."""

_HOSTING = ("model", "weights", "labels", "mean", "std", "size", "device", "dtype", "threads")

ImagesOption = Annotated[
    Path, typer.Option("--images", help="Folder of clean images, or an .npy file of pixels.", metavar="PATH")
]
OutOption = Annotated[Path, typer.Option("--out", help="File to write.", metavar="FILE")]
BatchOption = Annotated[int, typer.Option("--batch-size", help="Images in a forward.", min=1, metavar="NUMBER")]


@o.with_settings(*_HOSTING)
def calibrate_baseline(
    images: ImagesOption,
    out: OutOption = Path("baseline.safetensors"),
    batch_size: BatchOption = 64,
    config: o.ConfigOption = None,
    **options: Any,
) -> None:
    """Measure clean images, so that drift is told in units of how much they differ from each other."""
    from app.baselines import save_baseline

    settings = settings_from({**options, "config": config})
    parts = _parts(images, batch_size)
    if (count := sum(len(part) for part in parts)) < LEAST:
        fail(f"{images} holds {count} images; give at least {LEAST}", status=BAD_OPTION)
    model, baseline = asyncio.run(_measure(settings, parts, count))
    try:
        save_baseline(baseline, out, model, count)
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror or error}", status=CANNOT_RUN)
    typer.echo(f"Measured {count:,} images on {model}: {out}. Use it with `renorm serve --baseline {out}`.")


def _parts(path: Path, size: int) -> Sequence[Sequence[Path] | Tensor]:
    """The images, ``size`` at a time: paths, or pixels."""
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


async def _measure(settings: Settings, parts: Sequence[Sequence[Path] | Tensor], count: int) -> tuple[str, Baseline]:
    import torch

    from adapters import fit_baseline
    from app.client.folders import bar
    from app.errors import RenormError

    engine = await open_engine(settings.model_copy(update={"strategy": "source", "max_images": sys.maxsize}))
    try:
        with bar(count, visible=True) as advance:
            measured = []
            for part in parts:
                measured.append(await engine.moments(_content(part)))
                advance(len(part))
        return engine.hosted.name, fit_baseline(torch.cat(measured))
    except RenormError as error:
        fail(f"{_name(part, error.location)}: {error.message}", status=CANNOT_RUN)
    finally:
        await engine.close()


def _name(part: Sequence[Path] | Tensor, location: str) -> str:
    """The file that the engine calls ``images[2]``."""
    index = re.fullmatch(r"images\[(\d+)\]", location)
    file = part[int(index[1])] if index and int(index[1]) < len(part) else None
    return str(file) if isinstance(file, Path) else location or "the images"


def _content(part: Sequence[Path] | Tensor) -> list[bytes] | Tensor:
    import torch

    return part if isinstance(part, torch.Tensor) else [path.read_bytes() for path in part]
