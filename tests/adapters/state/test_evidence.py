"""Evidence: what it says of streams whose order is known, in any number of classes and however they are cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapters import Evidence
from adapters.state.evidence import EvidenceState, add_answers, new_evidence_state, published
from tests.adapters.evidence_by_hand import EvidenceLoop


def answers(labels: Tensor, classes: int) -> Tensor:
    return 6.0 * torch.nn.functional.one_hot(labels, classes).float()


def gather(labels: Tensor, classes: int, images: int = 16) -> Evidence:
    state = new_evidence_state()
    for part in torch.split(labels, images):
        state = add_answers(state, answers(part, classes))
    return published(state)


def runs(length: int, classes: int, count: int = 640) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(classes, (count // length + 1,), generator=generator).repeat_interleave(length)[:count]


@pytest.mark.parametrize("classes", [2, 10, 64, 1000])
def test_shuffled_classes_make_most_images_independent(classes: int) -> None:
    evidence = gather(runs(1, classes), classes)
    assert float(evidence.independence) > 0.6
    assert float(evidence.persistence) < 1.6
    assert float(evidence.diversity) > 0.9


@pytest.mark.parametrize("classes", [10, 1000])
def test_longer_runs_leave_fewer_independent_images(classes: int) -> None:
    found = [gather(runs(length, classes), classes) for length in (1, 4, 16, 64)]
    independence = [float(evidence.independence) for evidence in found]
    assert independence == sorted(independence, reverse=True)
    persistence = [float(evidence.persistence) for evidence in found]
    assert persistence == sorted(persistence)
    assert 8 < persistence[2] < 40
    assert independence[-1] < 0.05


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_one_class_makes_no_image_independent(classes: int) -> None:
    logits = torch.full((16, classes), -1.0)
    logits[:, 0] = 5.0
    state = new_evidence_state()
    for _ in range(20):
        state = add_answers(state, logits)
    evidence = published(state)
    assert float(evidence.independence) == 0.0
    assert float(evidence.diversity) < 1e-5
    assert float(evidence.images) == 300


def test_a_single_score_is_a_choice_of_two() -> None:
    state = new_evidence_state()
    for k in range(20):
        scores = torch.randn(16, 1, generator=torch.Generator().manual_seed(k))
        state = add_answers(state, scores)
    # One number tells two classes apart: chance alone looks like runs of two or three images.
    assert float(published(state).independence) > 0.2


def test_evidence_is_read_anew_every_period_and_not_before() -> None:
    state, found = new_evidence_state(), []
    for label in runs(1, 10, 100):
        state = add_answers(state, answers(label[None], 10))
        found.append(float(published(state).images))
    assert found == [0.0] * 31 + [32.0] * 32 + [64.0] * 32 + [96.0] * 5


def test_sums_are_those_of_the_loop_for_large_and_small_requests_of_many_classes() -> None:
    state, loop = new_evidence_state(), EvidenceLoop()
    for seed, images in enumerate((1, 40, 130, 7, 300)):
        logits = 2 * torch.randn(images, 70, generator=torch.Generator().manual_seed(seed))
        state = add_answers(state, logits)
        loop.add(logits)
    found = torch.cat([field.reshape(-1) for field in state]).double()
    torch.testing.assert_close(found, loop.row(), rtol=1e-4, atol=1e-5)


def test_streams_side_by_side_gather_what_each_gathers_alone() -> None:
    logits = torch.randn(3, 5, 10, generator=torch.Generator().manual_seed(3))
    start = new_evidence_state()
    together = add_answers(EvidenceState(*(field.expand(3, *field.shape) for field in start)), logits)
    for k in range(3):
        alone = add_answers(start, logits[k])
        for field, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(field[k], expected)
