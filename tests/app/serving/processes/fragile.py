"""A network that ends its process, or takes its time, where an image says so; and images for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from app.settings import Settings

MODEL = "python:tests.app.serving.processes.fragile:Fragile"
KILL, EXIT, WAIT, RAISE = 1, 2, 3, 4
"""The grey values of images that say so."""

GATE = "RENORM_TEST_GATE"
"""The variable with the folder of the files that hold up forwards."""


class Fragile(nn.Module):
    """Two convolutions with BatchNorm; a batch with a grey image of these values does not come back as usual."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Linear(8, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5

    def forward(self, x: Tensor) -> Tensor:
        for value in (x * 255).round()[(x == x[:, :1, :1, :1]).flatten(1).all(1)][:, 0, 0, 0].tolist():
            if value == KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            if value == EXIT:
                raise SystemExit(3)
            if value == RAISE:
                raise RuntimeError("a grey image")
            if value == WAIT:
                _wait(Path(os.environ[GATE]))
        logits: Tensor = self.head(self.body(x).mean((2, 3)))
        return logits


def _wait(folder: Path) -> None:
    """Say that a forward has begun, and wait while there is a file that holds it up."""
    (folder / "begun").touch()
    for _ in range(3000):
        if not (folder / "hold").exists():
            return
        time.sleep(0.01)


def grey(value: int, count: int = 1) -> Tensor:
    """Images that say so."""
    return torch.full((count, 8, 8, 3), value, dtype=torch.uint8)


def noise(seed: int, count: int = 1) -> Tensor:
    """Images that are answered."""
    return torch.randint(0, 256, (count, 8, 8, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def settings_of(**values: object) -> Settings:
    usual = {"model": MODEL, "size": 8, "mean": "0,0,0", "std": "1,1,1", "strategy": "adabn", "device": "cpu"}
    return Settings.model_validate({**usual, **values})
