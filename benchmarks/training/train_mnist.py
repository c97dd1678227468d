"""Train the network for MNIST of the studies and write its weights as safetensors.

    python -m benchmarks.training.train_mnist --data path/to/mnist

SGD with Nesterov momentum 0.9 and weight decay 5e-4, one cosine cycle of four epochs from a rate of 0.1, batches of
128, shifts of up to two pixels; two minutes on one core. The folder holds the four published files, unpacked.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.common import progress_bar
from benchmarks.networks import digits
from benchmarks.training.cifar10 import Split
from benchmarks.training.mnist import load
from benchmarks.training.train_cifar10 import accuracy

MEAN, STD = 0.1307, 0.3081
EPOCHS, BATCH, RATE, REACH = 4, 128, 0.1, 2


def normalize(images: Tensor) -> Tensor:
    """uint8 ``[n, h, w, 3]`` to normalized float32 ``[n, 3, h, w]``."""
    return ((images.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `REACH` pixels in both directions; the border is black."""
    n, height, width = images.shape[:3]
    padded = F.pad(images, (0, 0, *(REACH,) * 4))
    top, side = torch.randint(0, 2 * REACH + 1, (2, n, 1), generator=generator)
    rows, columns = top + torch.arange(height), side + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(network: nn.Module, split: Split, epochs: int = EPOCHS) -> None:
    """Train ``network`` in place; a function of its weights and the data, with a progress bar on standard error."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * -(-len(split.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 * (1 + math.cos(math.pi * i / steps)))
    network.train()
    with progress_bar(2) as progress:
        task = progress.add_task("training", total=steps)
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(split.labels), generator=generator), BATCH):
                logits = network(normalize(shift(split.images[batch], generator)))
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(logits, split.labels[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                progress.advance(task)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, report the clean test accuracy and write the weights; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="MNIST: four unpacked IDX files")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/networks/mnist-digits.safetensors"))
    options = parser.parse_args(arguments)
    try:
        training, test = load(options.data)
    except (OSError, ValueError) as error:
        print(f"train_mnist: {error}", file=sys.stderr)
        return 1
    torch.manual_seed(0)
    network = digits()
    train(network, training)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, options.out)
    print(f"test accuracy on the {len(test.labels):,} clean images: {accuracy(network, test, normalize):.2f} %")
    print(f"weights: {options.out} ({options.out.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
