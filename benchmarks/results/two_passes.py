"""The errors of `adabn`, which measures and answers in one forward, and of the running average of two passes.

    python -m benchmarks.results.two_passes --data path/to/cifar10c

Two passes are the field's baseline: a forward in train mode moves every layer's running statistics while the layers
before it normalize by the request's own, and a second forward in eval mode answers. Both move by the same weight of a
request. The bundled network starts anew at each corruption. It prints a table; about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, strategy
from adapters.number import rate
from app.evaluation.streams.orders import by_class, dirichlet, iid
from app.evaluation.streams.subsets import Indices
from app.models import load
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.settings import Settings


class ComparedStream(NamedTuple):
    """An order of the images, and the images of a request."""

    order: str
    arrange: Callable[[Indices, np.random.Generator], Indices]
    size: int


STREAMS = (
    ComparedStream("iid", iid, 64),
    ComparedStream("iid", iid, 16),
    ComparedStream("dirichlet:0.1", partial(dirichlet, delta=0.1), 64),
    ComparedStream("sorted", by_class, 16),
)


@torch.no_grad()
def predict_in_two_passes(network: nn.Module, requests: Sequence[Tensor]) -> Tensor:
    """Return predictions of the running average that takes two passes."""
    network = copy.deepcopy(network)
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    answers = []
    for request in requests:
        for layer in layers:
            layer.momentum, layer.training = rate(0.1, len(request), 32), True
        network(request)
        for layer in layers:
            layer.training = False
        answers.append(network(request).argmax(1))
    return torch.cat(answers)


def predict_in_one_pass(network: nn.Module, requests: Sequence[Tensor]) -> Tensor:
    """Return predictions of `adabn`."""
    model = AdaptiveModel(network, strategy("adabn"))
    return torch.cat([model(request).argmax(1) for request in requests])


def measure_errors(hosted: Hosted, pixels: Tensor, labels: Tensor, size: int) -> tuple[float, float]:
    """Return percent wrong of `adabn` and of two passes."""
    requests = Pixels(hosted.preprocessing)(pixels).split(size)
    answers = (predict(hosted.network, requests) for predict in (predict_in_one_pass, predict_in_two_passes))
    one_pass, two_passes = (100 * float((predicted != labels).double().mean()) for predicted in answers)
    return one_pass, two_passes


def format_row(hosted: Hosted, data: Path, stream: ComparedStream) -> str:
    """Return one line of the table."""
    order, arrange, size = stream
    labels = np.load(data / "labels.npy").astype(np.int64)
    chosen = arrange(labels, np.random.default_rng(0))
    errors = {}
    for path in sorted(data.glob("*.npy")):
        if path.stem != "labels":
            pixels = torch.from_numpy(np.load(path)[chosen])
            errors[path.stem] = measure_errors(hosted, pixels, torch.from_numpy(labels[chosen]), size)
            print(f"{order}, requests of {size}: {path.stem}", file=sys.stderr)
    clean, shifted = errors.pop("clean"), list(errors.values())
    means = [np.mean(part) for part in zip(*shifted, strict=True)]
    differences = [two_passes - one_pass for one_pass, two_passes in shifted]
    return (
        f"| {order}, {size} | {means[0]:.1f} | {means[1]:.1f} | {min(differences):+.1f} to {max(differences):+.1f} "
        f"| {clean[0]:.1f} | {clean[1]:.1f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="CIFAR-10-C with clean.npy and labels.npy"
    )
    data, hosted = parser.parse_args(arguments).data, load(Settings())
    print("| order, images per request | adabn | two passes | by corruption | clean: adabn | clean: two passes |")
    print("|---|--:|--:|--:|--:|--:|")
    for stream in STREAMS:
        print(format_row(hosted, data, stream), flush=True)


if __name__ == "__main__":
    main()
