"""The fixed sequence of predictions: every strategy, door and size, with states that build up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .doors import Doors
from .entries import Entry
from .features import FEATURES, feature_entries
from .images import CONDITIONS, ImageSource, unusual_files
from .steps import DOORS, RecordedStep

SIZES = (1, 8, 2, 16, 3)

STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("source", {}),
    ("bn", {}),
    ("alpha_bn", {}),
    ("alpha_bn", {"source_weight": 0.7, "unbiased": True}),
    ("alpha_bn", {"prior": 4}),
    ("adabn", {}),
    ("adabn", {"momentum": 0.3, "reference_images": 8}),
    ("adabn", {"cumulative": True}),
    ("adabn", {"own": False}),
    ("adabn", {"reference_images": None, "unbiased": True}),
    ("robust_bn", {}),
    ("robust_bn", {"momentum": 0.2}),
    ("unmix_tns", {}),
    ("unmix_tns", {"start": "random", "seed": 7, "components": 4, "temperature": 0.2}),
    ("iabn", {}),
    ("iabn", {"k": 4.0, "momentum": 0.2}),
    ("tema", {}),
    ("tema", {"sizes": "imagenet", "medium": 0.2, "unbiased": True}),
    ("tent", {}),
    ("tent", {"lr": 0.01, "steps": 2, "optimizer": "sgd"}),
    ("tent", {"least_images": 3}),
    ("core", {"least_images": 2}),
    ("core", {"normalize": "classes", "least_images": 1, "lr": 0.005}),
    ("rotta", {}),
    ("rotta", {"capacity": 16, "update_every": 8, "teacher_rate": 0.05, "seed": 3}),
    ("rotta", {"capacity": 8, "update_every": 4, "augment": False, "lambda_t": 2.0, "lambda_u": 0.5}),
    ("lame", {}),
    ("lame", {"memory": 0, "when": "always", "affinity": "knn", "neighbours": 3}),
    ("lame", {"affinity": "linear", "weight": 0.5, "iterations": 7, "memory": 4}),
    ("cofa", {}),
    ("temperature", {"temperature": 1.7}),
    ("adabn+lame", {}),
    ("adabn+lame", {"lame.when": "always", "adabn.momentum": 0.2}),
    ("adabn+cofa", {}),
    ("adabn+tent", {}),
    ("adabn+core", {"least_images": 1}),
    ("adabn+temperature", {"temperature": 0.6}),
    ("unmix_tns+lame", {"lame.when": "always"}),
    ("iabn+lame", {}),
    ("tema+tent", {"lr": 0.002}),
    ("source+tent", {}),
    ("robust_bn+core", {"least_images": 2}),
    ("tent+lame", {}),
    ("core+cofa", {"least_images": 2}),
    ("bn+rotta", {"capacity": 8, "update_every": 8}),
    ("rotta+temperature+lame", {"temperature.temperature": 1.3, "capacity": 8, "update_every": 8}),
    ("adabn+tent+temperature+cofa+lame", {"temperature.temperature": 2.0, "lame.when": "always"}),
    ("cofa+adabn+lame", {}),
)
"""Every registered strategy, with and without hyperparameters, and composites; each has two streams."""


def requests() -> int:
    """Return about how many predictions there will be, for a progress bar."""
    return len(STRATEGIES) * (len(DOORS) + 2) + len(FEATURES) * 40 + 20


def predictions(doors: Doors) -> Iterator[Entry]:
    """Yield every prediction of the sequence, each answered before the next is sent."""
    number = 0
    for i, (strategy, params) in enumerate(STRATEGIES):
        sources = [ImageSource(CONDITIONS[(i + j) % 4], seed=7 * i + j, by_class=(i + j) % 2 == 0) for j in range(2)]
        for door in DOORS:
            stream = f"{('camera', 'desk')[number % 3 == 2]}-{i % 4}"
            frames = sources[number % 3 == 2].take(SIZES[number % len(SIZES)])
            fields = {"top_k": 10}
            yield from _send(doors, door, RecordedStep(stream, strategy, params, frames, number, fields))
            number += 1
    for i, (strategy, params) in enumerate(FEATURES):
        source = ImageSource(CONDITIONS[i % 4], seed=1000 + i, by_class=False)
        yield from feature_entries(doors, strategy, params, source)
    clean = ImageSource("clean", seed=2000, by_class=False)
    for name, content in unusual_files(clean.take(1)[0]).items():
        query = {"stream": "formats", "strategy": "adabn", "top_k": "10"}
        answer = doors.call("POST", "/v1/predict", content=content, params=query)
        yield Entry(f"format {name}", answer.kind, *answer)
        probe = RecordedStep("formats", "adabn", {}, clean.take(2), fields={"update": False})
        yield from _send(doors, "oip-binary-pixels", probe, f"probe after {name}")


def _send(doors: Doors, door: str, step: RecordedStep, label: str = "") -> Iterator[Entry]:
    answers = DOORS[door](doors, step)
    count = 1 if door in ("raw", "live") else len(step.frames)
    name = label or f"{step.number:04} {door} {step.strategy} {json.dumps(step.params)} n={count}"
    for i, answer in enumerate(answers):
        frame = f" frame {i}" if len(answers) > 1 else ""
        yield Entry(f"{name}{frame}", answer.kind, *answer, step.digest)
