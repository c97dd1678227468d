"""The evaluations of the study: calls of `renorm evaluate`, the most wanted first.

Everything with everything would take days. Where the study is stopped, what is there makes a table already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.evaluation.metrics import CLEAN
from app.evaluation.recovery import RECURRING
from benchmarks.results.plan import PublishedEvaluation

AUTO = "auto"
"""The strategy that is studied."""

FIXED = (
    *("source", "adabn", "adabn+lame", "iabn+lame"),
    *("unmix_tns", "unmix_tns+lame", "lame", "james_stein+lame"),
)
"""The strategies that a user would otherwise choose from."""

STRATEGIES = (*FIXED, AUTO)

ABLATIONS = {
    AUTO: "as it is",
    "auto:alarm=1000000": "no alarm of a change",
    "james_stein+lame:horizon=200": "no evidence and no alarm",
    "auto:mixture=1000000": "no image drawn to its own statistics where domains are mixed",
    "shrinkage": "no LAME",
    "auto:adapted_depth=1": "no depth at which adapting ends",
    "auto:prior_images=0": "no trained statistics at the start of a stream",
}
"""The strategies that are `auto` without a part, and the part that is turned off."""

ORDERS = (
    *("iid", "dirichlet:0.1", "stretches:100", "one_class"),
    *("sorted", "stretches:25", "stretches:200", "stretches:1000"),
)
"""Orders of the images of a domain, the most telling first; the first three suit domains that follow each other."""

SMALL_ORDERS, MOVING_ORDERS = ORDERS[:4], ORDERS[:3]

IMAGES = 1_000
"""Of each domain."""

VISITS, MANY_VISITS = 5, 20
"""Rounds of `recurring`: by default, and in one cell."""

GRADUAL, SEVERITIES_SHOWN, GRADUAL_IMAGES = "gradual", 9, 200
"""The protocol that needs all severities, how many a domain shows (1-2-3-4-5-4-3-2-1), and images of each of these
where a small grid has it."""


class Subject(NamedTuple):
    """A network and the data that it is tested on. Its folders, its CSV file and `--only` have its name."""

    name: str
    title: str
    data: str  # the option of the command line that gives the folder
    evaluations: tuple[PublishedEvaluation, ...]

    def reduced(self, limit: int) -> Subject:
        """The same with so many images of each domain at most."""
        return self._replace(evaluations=tuple(p._replace(limit=min(limit, p.limit)) for p in self.evaluations))


def count_images(plan: PublishedEvaluation, domains: int) -> int:
    """The number of images that all cells of an evaluation predict, on data of so many corruptions."""
    domain_visits = {CLEAN: 1, RECURRING: domains * _visits(plan), GRADUAL: domains * SEVERITIES_SHOWN}
    per_order = sum(plan.limit * domain_visits.get(protocol, domains) for protocol in plan.protocols)
    return per_order * len(plan.strategies) * len(plan.orders) * len(plan.batches) * plan.seeds


def _visits(plan: PublishedEvaluation) -> int:
    return int(plan.options[plan.options.index("--visits") + 1]) if "--visits" in plan.options else VISITS


def _evaluations(
    name: str,
    protocols: Sequence[str],
    orders: Sequence[str],
    batch: int,
    strategies: Sequence[str] = STRATEGIES,
) -> Iterator[PublishedEvaluation]:
    """One for each protocol and order; all orders of clean streams, which are short, in one."""
    for protocol in protocols:
        for part in [tuple(orders)] if protocol == CLEAN else [(order,) for order in orders]:
            yield PublishedEvaluation(name, tuple(strategies), (protocol,), part, (batch,), 1, IMAGES)


def _whole_grid(name: str) -> Iterator[PublishedEvaluation]:
    moving = ("continual", "mixed")
    for batch in (16, 1):
        yield from _evaluations(name, (CLEAN, "single"), ORDERS, batch)
    yield from _evaluations(name, moving, MOVING_ORDERS, 16)
    yield from _evaluations(name, ("continual",), ("ptta",), 16)
    yield from _evaluations(name, (CLEAN, "single"), SMALL_ORDERS, 16, tuple(ABLATIONS))
    yield from _evaluations(name, moving, MOVING_ORDERS, 16, tuple(ABLATIONS))
    (repeated,) = _evaluations(f"{name}-visits", (RECURRING,), ("iid",), 16, ("adabn", AUTO))
    yield repeated._replace(options=("--visits", str(MANY_VISITS)))
    yield from _evaluations(name, (RECURRING,), MOVING_ORDERS[1:], 16)
    yield from _evaluations(name, (GRADUAL,), MOVING_ORDERS, 16)
    for batch in (4, 64):
        yield from _evaluations(name, (CLEAN, "single"), ORDERS, batch)
    for batch in (1, 4, 64):
        yield from _evaluations(name, moving, MOVING_ORDERS, batch)
        yield from _evaluations(name, ("continual",), ("ptta",), batch)


def _small_grid(name: str, *options: str, has_severities: bool = False) -> tuple[PublishedEvaluation, ...]:
    plans = [*_evaluations(name, (CLEAN, "single"), SMALL_ORDERS, 16)]
    if has_severities:
        gradual = _evaluations(f"{name}-gradual", (GRADUAL,), MOVING_ORDERS, 16)
        plans += [plan._replace(limit=GRADUAL_IMAGES) for plan in gradual]
    return tuple(plan._replace(options=options) for plan in plans)


SUBJECTS = (
    Subject(
        "cifar10",
        "the bundled ResNet-20 on the fifteen corruptions of CIFAR-10-C",
        "data",
        tuple(_whole_grid("cifar10")),
    ),
    Subject(
        "mnist",
        "a network of three convolutions on MNIST with eight corruptions",
        "mnist",
        _small_grid(
            "mnist",
            *("--model", "python:benchmarks.networks:digits"),
            *("--weights", "benchmarks/networks/mnist-digits.safetensors", "--size", "28"),
            *("--mean", "0.1307,0.1307,0.1307", "--std", "0.3081,0.3081,0.3081"),
            has_severities=True,
        ),
    ),
    Subject(
        "vgg",
        "a VGG on the fifteen corruptions of CIFAR-10-C",
        "data",
        _small_grid(
            "vgg",
            *("--model", "python:benchmarks.networks:vgg"),
            *("--weights", "benchmarks/networks/cifar10-vgg.safetensors", "--size", "32"),
            *("--mean", "0.4914,0.4822,0.4465", "--std", "0.2470,0.2435,0.2616"),
        ),
    ),
    Subject(
        "held-out",
        "the bundled ResNet-20 on the four corruptions that hyperparameters were chosen on",
        "held_out",
        _small_grid("held-out"),
    ),
)
"""The networks and data, in the order in which they run."""
