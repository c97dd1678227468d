"""Requests whose lesson could never fit are refused before anything is done for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters import as_composite, strategy
from adapters.probes.lesson_memory import LessonMemory
from app.errors import TooLargeError
from app.resources.machine import usable_bytes
from app.serving.lesson_limit import LessonLimit
from app.settings import Settings

CPU = torch.device("cpu")


def limit(max_bytes: int | None = 1000, budget: int = 8000) -> LessonLimit:
    memory = LessonMemory()
    memory.per_image = 100
    lessons = LessonLimit(memory, Settings(max_lesson_bytes=max_bytes, max_memory_bytes=budget), CPU)
    lessons.begin()
    assert memory.together == budget // 8 // 100
    return lessons


@pytest.mark.parametrize(
    ("name", "params", "images"),
    [
        ("tent", {}, 10),
        ("core", {"least_images": 2}, 10),
        ("rotta", {"capacity": 10}, 99),
        ("adabn", {}, 128),
        ("tent", {}, 0),
        ("rotta", {}, 0),
    ],
)
def test_lesson_that_fits_passes(name: str, params: dict[str, int], images: int) -> None:
    limit().check(as_composite(strategy(name, params)), images)


@pytest.mark.parametrize(
    ("name", "params", "images", "location", "words"),
    [
        ("tent", {}, 11, "images", "11 images at once needs 1100 bytes of memory, and the limit is 1000"),
        ("core", {}, 128, "images", "128 images at once needs 12800 bytes"),
        ("rotta", {}, 1, "params", "64 images at once needs 6400 bytes"),
        ("rotta", {"capacity": 11}, 1, "params", "11 images at once needs 1100 bytes"),
    ],
)
def test_lesson_that_can_never_fit_is_refused_with_a_hint(
    name: str, params: dict[str, int], images: int, location: str, words: str
) -> None:
    with pytest.raises(TooLargeError, match=words) as refusal:
        limit().check(as_composite(strategy(name, params)), images)
    assert refusal.value.location == location
    assert "at most 10 images" in refusal.value.hint
    assert "RENORM_MAX_LESSON_BYTES" in refusal.value.hint


def test_by_default_half_of_the_machines_memory_is_for_it() -> None:
    assert limit(None).max_bytes == usable_bytes(CPU) // 2
    limit(None).check(as_composite(strategy("tent")), 128)


@pytest.mark.parametrize(
    ("name", "text", "known"),
    [
        ("memory.max", "1000000\n", True),
        ("memory.max", "max\n", False),
        ("memory.max", "", False),
        ("memory/memory.limit_in_bytes", "1000000\n", True),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", False),
        ("other", "1", False),
    ],
)
def test_the_memory_of_a_container(tmp_path: Path, name: str, text: str, known: bool) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    whole = usable_bytes(CPU, tmp_path / "nothing")
    assert whole > 10**8
    assert usable_bytes(CPU, tmp_path) == (1_000_000 if known else whole)
