"""What requests are told, read for a whole forward at once, is what each would be told alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from app.serving.outputs import Output, read_outputs


def logits(*sizes: int, classes: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, classes, generator=generator) * 3 for n in sizes]


def same(a: Output, b: Output) -> bool:
    return torch.equal(a.probabilities, b.probabilities) and a[1:] == b[1:]


def test_answer_does_not_depend_on_others_in_the_forward() -> None:
    parts, ranked = logits(1, 3, 2, 1), [5, 12, 1, 5]
    for output, part, k in zip(read_outputs(parts, ranked), parts, ranked, strict=True):
        (alone,) = read_outputs([part], [k])
        assert same(output, alone)
        assert [len(row) for row in output.classes] == [k] * len(part)


def test_ties_fall_alike_whatever_the_others_want() -> None:
    tied = torch.zeros(2, 40)
    for others in (1, 7, 40):
        output, _ = read_outputs([tied, torch.randn(1, 40)], [3, others])
        assert same(output, read_outputs([tied], [3])[0])


def test_classes_are_ranked_with_their_probabilities() -> None:
    (output,) = read_outputs([torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]).log()], [2])
    assert output.classes == [[1, 2], [0, 2]]
    assert output.shares == [pytest.approx([0.6, 0.3]), pytest.approx([0.5, 0.3])]
    entropy = -sum(p * math.log(p) for p in (0.1, 0.6, 0.3, 0.5, 0.2, 0.3)) / 2
    assert output.entropy == pytest.approx(entropy)


def test_certainty_has_no_negative_zero() -> None:
    (output,) = read_outputs([torch.tensor([[0.0, -torch.inf, -torch.inf]])], [1])
    assert math.copysign(1.0, output.entropy) == 1.0
    assert output.entropy == 0.0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_show_in_the_entropy_of_their_request_alone(bad: float) -> None:
    parts = logits(2, 2)
    parts[0][1, 3] = bad
    first, second = read_outputs(parts, [1, 1])
    assert math.isnan(first.entropy)
    assert math.isfinite(second.entropy)


def test_half_precision_is_read_in_single() -> None:
    (output,) = read_outputs([logits(3)[0].bfloat16()], [2])
    assert output.probabilities.dtype == torch.float32
    assert torch.allclose(output.probabilities.sum(1), torch.ones(3))
