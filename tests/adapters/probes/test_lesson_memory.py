"""The memory that lessons take: measured, and shared lessons bounded by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Key, Lesson, Request, as_composite, strategy
from adapters.engine.lessons import group_lessons
from adapters.probes.lesson_memory import LessonMemory, saved_bytes


class Net(nn.Module):
    """Two layers whose memory is known: per image one map of 4 channels for BatchNorm, and one for the ReLU."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head, self.side = nn.Linear(4, 5), side

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.bn(self.conv(images)).relu().mean((2, 3)))
        return found


def made(side: int = 8, name: str = "tent") -> AdaptiveModel:
    torch.manual_seed(0)
    model = AdaptiveModel(Net(), name)
    model.warm_up(torch.rand(1, 3, side, side))
    return model


@pytest.mark.parametrize("side", [8, 16, 32])
def test_estimate_of_kept_bytes_grows_with_the_picture_and_covers_the_maps(side: int) -> None:
    model = made(side)
    maps = 2 * 4 * side * side * 4
    kept = saved_bytes(model._hosted, torch.rand(1, 3, side, side))
    assert maps <= kept <= 4 * maps + 2000
    assert model.lessons.per_image == 3 * kept // 2


def test_weights_are_not_counted() -> None:
    class Wide(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 100_000)

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)[:, :5]

    model = AdaptiveModel(Wide(), "tent")
    model.warm_up(torch.rand(1, 3, 8, 8))
    assert model.lessons.per_image < 1_600_000


def test_a_network_without_gradients_takes_nothing() -> None:
    class Frozen(Net):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(images)

    model = AdaptiveModel(Frozen(), "adabn")
    model.warm_up(torch.rand(1, 3, 8, 8))
    assert model.lessons.per_image == 0
    assert model.lessons.bytes_of(as_composite(strategy("tent")), 1000) == 0
    model.lessons.limit(10)
    assert model.lessons.together > 10**9


@pytest.mark.parametrize(
    ("name", "images", "learned"),
    [
        ("adabn", 9, 0),
        ("lame", 9, 0),
        ("tent", 9, 9),
        ("tent", 1, 1),
        ("core", 99, 0),
        ("core", 100, 100),
        ("rotta", 1, 64),
        ("rotta", 99, 64),
    ],
)
def test_images_of_counts_the_images_of_a_lesson(name: str, images: int, learned: int) -> None:
    memory = LessonMemory()
    memory.per_image = 10
    assert memory.images_of(as_composite(strategy(name)), images) == learned
    assert memory.bytes_of(as_composite(strategy(name)), images) == 10 * learned


def test_lesson_images_depend_on_hyperparameters() -> None:
    memory = LessonMemory()
    assert memory.images_of(as_composite(strategy("rotta", {"capacity": 7})), 100) == 7
    assert memory.images_of(as_composite(strategy("tent", {"least_images": 5})), 4) == 0
    assert memory.images_of(as_composite(strategy("tent", {"least_images": 5})), 5) == 5


def test_lessons_share_a_forward_as_far_as_the_bound_allows() -> None:
    model = made()
    requests = [Request(torch.rand(count, 3, 8, 8), f"s{i}") for i, count in enumerate((3, 2, 4, 9, 1))]
    outcome = model.run(requests, {})
    sizes = [[len(one.images) for one in group.values()] for group in group_lessons(outcome.lessons, 5)]
    assert sizes == [[3, 2], [4], [9], [1]]
    assert [len(group) for group in group_lessons(outcome.lessons)] == [5]


def test_a_bound_changes_how_much_is_kept_at_once_and_not_what_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    outcome = model.run([Request(torch.rand(4, 3, 8, 8), f"s{i}") for i in range(6)], {})
    whole = model.learn(outcome.lessons, outcome.memories)
    seen: list[int] = []
    network = model._hosted.network.forward

    def watched(images: Tensor) -> Tensor:
        seen.append(len(images))
        result: Tensor = network(images)
        return result

    monkeypatch.setattr(model._hosted.network, "forward", watched)
    model.lessons.limit(9 * model.lessons.per_image)
    parts = model.learn(outcome.lessons, outcome.memories)
    assert max(seen) == 8
    assert sum(seen) == 24
    for key, memory in whole.items():
        torch.testing.assert_close(parts[key].parts[0][0], memory.parts[0][0])


def test_peak_bytes_is_the_largest_forward_of_a_turn() -> None:
    memory = LessonMemory()
    memory.per_image = 10
    image = torch.zeros(1)

    def lessons(*counts: int) -> dict[Key, Lesson]:
        tent = strategy("tent")
        return {Key(str(i), tent): Lesson(image.expand(n), image, image, image) for i, n in enumerate(counts)}

    assert memory.peak_bytes(lessons(3, 4)) == 70
    memory.limit(50)
    assert memory.peak_bytes(lessons(3, 4)) == 50
    assert memory.peak_bytes(lessons(3, 9)) == 90
    assert memory.peak_bytes({}) == 0
