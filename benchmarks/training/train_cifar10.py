"""Train the bundled CIFAR-10 ResNet-20, or the VGG of the studies, and write its weights as safetensors.

    python -m benchmarks.training.train_cifar10 --data DIR --out app/weights/cifar10-resnet20.safetensors
    python -m benchmarks.training.train_cifar10 --data DIR --architecture vgg

SGD with Nesterov momentum 0.9 and weight decay 5e-4, two cosine cycles with random crop (pad 4) and flip, bfloat16
autocast; evaluated in float32 on the 10,000 clean test images. Interrupt it freely: it resumes from the checkpoint
beside ``--out``.

The first cycle pads crops with black, as is usual. Its statistics then describe images with black borders, and a
strategy that follows real images drifts away from them: on clean images the first cycle's network loses two points
with the statistics of clean images. The second cycle pads with mirrored pixels, which leaves statistics as served.
The VGG has one cycle, mirrored from the start.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import Tensor, nn

from app.models.resnet20 import ResNet20
from benchmarks.networks import vgg
from benchmarks.training.cifar10 import Split, load

MEAN = torch.tensor([0.4914, 0.4822, 0.4465])
STD = torch.tensor([0.2470, 0.2435, 0.2616])
MIRROR = torch.tensor([4, 3, 2, 1, *range(32), 30, 29, 28, 27])


@dataclass(frozen=True)
class Cycle:
    """Some epochs under one learning rate schedule: linear warm-up, then a cosine to zero."""

    epochs: int
    peak_rate: float
    warmup_epochs: float
    mirrored: bool

    def rate(self, epoch: float) -> float:
        """The learning rate at a fractional epoch of the cycle."""
        if epoch < self.warmup_epochs:
            return self.peak_rate * (epoch + 0.01) / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Recipe:
    """The numbers that decide the result: a run is a function of them and the data."""

    cycles: tuple[Cycle, ...] = (Cycle(70, 0.15, 3.0, mirrored=False), Cycle(16, 0.05, 0.5, mirrored=True))
    batch: int = 128
    weight_decay: float = 5e-4
    seed: int = 0

    @property
    def epochs(self) -> int:
        """Of all cycles."""
        return sum(cycle.epochs for cycle in self.cycles)

    def at(self, epoch: int) -> tuple[Cycle, int]:
        """The cycle that an epoch belongs to, and the epoch's number within it."""
        for cycle in self.cycles:
            if epoch < cycle.epochs:
                return cycle, epoch
            epoch -= cycle.epochs
        raise ValueError("the recipe has no such epoch")


@dataclass(frozen=True)
class Architecture:
    """A network that is trained here, the cycles it takes, and the file of its weights."""

    network: Callable[[], nn.Module]
    cycles: tuple[Cycle, ...]
    weights: Path


ARCHITECTURES = {
    "resnet20": Architecture(ResNet20, Recipe.cycles, Path("app/weights/cifar10-resnet20.safetensors")),
    "vgg": Architecture(
        vgg, (Cycle(24, 0.1, 2.0, mirrored=True),), Path("benchmarks/networks/cifar10-vgg.safetensors")
    ),
}


def normalize(images: Tensor) -> Tensor:
    """uint8 ``[n, h, w, 3]`` to normalized float32 ``[n, 3, h, w]``, which is channels_last in memory."""
    return ((images.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def augment(images: Tensor, generator: torch.Generator, *, mirrored: bool) -> Tensor:
    """A random 32 px crop of each image padded by 4, with mirrored pixels or black, and a flip of half of them."""
    n = len(images)
    padded = images[:, MIRROR][:, :, MIRROR] if mirrored else F.pad(images, (0, 0, 4, 4, 4, 4))
    top, column = torch.randint(0, 9, (2, n, 1), generator=generator)
    span = torch.arange(32)
    columns = torch.where(torch.rand(n, 1, generator=generator) < 0.5, span, span.flip(0)) + column
    return padded[torch.arange(n)[:, None, None], (top + span)[:, :, None], columns[:, None, :]]


def accuracy(model: nn.Module, split: Split, prepare: Callable[[Tensor], Tensor] = normalize) -> float:
    """Percent of ``split`` that ``model`` gets right, in float32; ``prepare`` normalizes images."""
    model.eval()
    with torch.no_grad():
        hits = [
            (model(prepare(images)).argmax(1) == labels).sum()
            for images, labels in zip(torch.split(split.images, 500), torch.split(split.labels, 500), strict=True)
        ]
    return 100 * float(torch.stack(hits).sum()) / len(split.labels)


class Trainer:
    """One run: the network, its optimizer and the epoch reached, saved after every epoch."""

    def __init__(self, network: Callable[[], nn.Module], recipe: Recipe, checkpoint: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.checkpoint, self.epoch = recipe, checkpoint, 0
        self.model = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.epoch = saved["epoch"]

    def run_epoch(self, split: Split, progress: Progress) -> float:
        """Train on every image once, in an order fixed by seed and epoch; the mean loss."""
        generator = torch.Generator().manual_seed(1000 * self.recipe.seed + self.epoch)
        order = torch.randperm(len(split.labels), generator=generator)
        batches = torch.split(order, self.recipe.batch)
        task = progress.add_task(f"epoch {self.epoch + 1}/{self.recipe.epochs}", total=len(batches))
        cycle, epoch = self.recipe.at(self.epoch)
        self.model.train()
        total = 0.0
        for i, batch in enumerate(batches):
            for group in self.optimizer.param_groups:
                group["lr"] = cycle.rate(epoch + i / len(batches))
            images = augment(split.images[batch], generator, mirrored=cycle.mirrored)
            total += self._step(normalize(images), split.labels[batch])
            progress.advance(task)
        progress.remove_task(task)
        self.epoch += 1
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch}
        # Written aside and renamed: an interrupt cannot leave half a checkpoint.
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)
        return total / len(batches)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())


def main() -> None:
    """Parse the command line, train, report the clean test accuracy, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10 (python batches or PNG sheets)")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="resnet20")
    parser.add_argument("--out", type=Path, help="file of the weights; by default the one that is in the repository")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    arguments = parser.parse_args()
    try:
        train, test = load(arguments.data)
    except FileNotFoundError as error:
        parser.error(str(error))
    chosen = ARCHITECTURES[arguments.architecture]
    out: Path = arguments.out or chosen.weights
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(cycles=chosen.cycles, seed=arguments.seed)
    trainer = Trainer(chosen.network, recipe, out.with_suffix(".checkpoint"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        overall = progress.add_task("training", total=trainer.recipe.epochs, completed=trainer.epoch)
        while trainer.epoch < trainer.recipe.epochs:
            started = time.perf_counter()
            loss = trainer.run_epoch(train, progress)
            progress.advance(overall)
            seconds = time.perf_counter() - started
            progress.console.print(
                f"epoch {trainer.epoch}: loss {loss:.4f}, test {accuracy(trainer.model, test):.2f} %, {seconds:.0f} s"
            )
    save_file({k: v.contiguous() for k, v in trainer.model.state_dict().items()}, out)
    print(f"test accuracy on the 10,000 clean images: {accuracy(trainer.model, test):.2f} %")
    print(f"weights: {out} ({out.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
