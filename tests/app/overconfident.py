"""A network that is too sure of itself, and labelled images that show it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from app.engine import Engine
from app.settings import Settings
from app.types import Call
from tests.app.small import Net

MODEL = "python:tests.app.overconfident:network"
OPTIONS: dict[str, Any] = {"model": MODEL, "size": 8, "device": "cpu", "threads": 1}
CLASSES = [f"class {number}" for number in range(4)]  # as a factory's classes are called

TRUE = 3.0
"""What the network's logits must be divided by: labels are drawn from its answers after that."""


def network() -> Net:
    """Its answers differ from image to image, and are three times as sure as they are right."""
    made = Net()
    # What the scores of these images are without it, on average, so that each class wins some.
    made.head.bias.data = -torch.tensor([-1.89, -0.70, 0.45, 1.82])
    for parameter in made.head.parameters():
        parameter.data *= 6
    return made


def pixels(images: int) -> NDArray[np.uint8]:
    """Noise in as many colours, ``[n, 8, 8, 3]``."""
    random = np.random.default_rng(8)
    colour, width = random.uniform(60, 195, (images, 1, 1, 3)), random.uniform(0, 60, (images, 1, 1, 1))
    return (colour + width * random.uniform(-1, 1, (images, 8, 8, 3))).astype(np.uint8)


async def drawn(images: NDArray[np.uint8], strategy: str, **params: Any) -> NDArray[np.int64]:
    """Labels as the network would be right about them, shown in requests of 50 in this order."""
    engine = await Engine.open(Settings(**OPTIONS))
    parts = [images[start : start + 50] for start in range(0, len(images), 50)]
    asked = {"temperature.temperature": TRUE, **params}
    answers = [await engine.predict(Call(torch.tensor(part), "a", f"{strategy}+temperature", asked)) for part in parts]
    await engine.close()
    shares = np.concatenate([answer.probabilities.double().numpy() for answer in answers])
    found: NDArray[np.int64] = (np.log(shares) + np.random.default_rng(9).gumbel(size=shares.shape)).argmax(1)
    return found


def write_arrays(folder: Path, images: int = 600) -> Path:
    """`clean.npy` and `labels.npy`, beside a corruption that nobody should look at."""
    folder.mkdir()
    shown = pixels(images)
    np.save(folder / "labels.npy", asyncio.run(drawn(shown, "source")))
    np.save(folder / "clean.npy", shown)
    np.save(folder / "fog.npy", np.zeros_like(shown))
    return folder


def write_files(arrays: Path, folder: Path, names: list[str]) -> Path:
    """The same as PNG files, in a folder for each class."""
    labels, shown = np.load(arrays / "labels.npy"), np.load(arrays / "clean.npy")
    for i, (label, image) in enumerate(zip(labels, shown, strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / names[label] / f"{i:04}.png")
    return folder
