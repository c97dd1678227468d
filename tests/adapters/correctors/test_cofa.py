"""Consecutive-feature averaging against a loop over features and a linear head."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adapters.correctors.cofa import Cofa

QUICK = settings(max_examples=30, deadline=None, derandomize=True)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=5)
EMPTY = torch.zeros(1, 0)


def _stream(seed: int, sizes: list[int], classes: int = 4) -> list[Tensor]:
    """The logits of requests of the given sizes."""
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(n, classes, generator=generator) for n in sizes]


def _answers(requests: list[Tensor]) -> Tensor:
    """The answers to all images of a stream, request by request."""
    state, answers = Cofa().init(0, requests[0].shape[1]), []
    for logits in requests:
        answer, state = Cofa().correct(state, EMPTY, logits)
        answers.append(answer)
    return torch.cat(answers)


@QUICK
@given(st.integers(0, 10**6), SIZES)
def test_averaged_logits_are_those_of_averaged_features(seed: int, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(6, 4).double().requires_grad_(False)
    for parameter in head.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    features = torch.randn(sum(sizes), 6, generator=generator, dtype=torch.float64)
    expected = []
    for n, own in enumerate(features):
        plain = head(own).softmax(-1)
        blended = head((own + features[max(n - 1, 0)]) / 2).softmax(-1)
        expected.append(blended if blended.max() > plain.max() else plain)
    requests = list(torch.split(head(features).float(), sizes))
    torch.testing.assert_close(_answers(requests), torch.stack(expected).float(), atol=1e-5, rtol=0)


@QUICK
@given(st.integers(0, 10**6), SIZES)
def test_the_cut_into_requests_changes_nothing(seed: int, sizes: list[int]) -> None:
    requests = _stream(seed, sizes)
    images = [image[None] for image in torch.cat(requests)]
    torch.testing.assert_close(_answers(requests), _answers(images))
    torch.testing.assert_close(_answers([torch.cat(requests)]), _answers(images))


@QUICK
@given(st.integers(0, 10**6), SIZES)
def test_a_number_added_to_a_row_changes_nothing(seed: int, sizes: list[int]) -> None:
    # So log-probabilities, which differ from logits by such numbers, do as well as logits.
    requests = _stream(seed, sizes)
    added = [
        logits + 10 * torch.randn(len(logits), 1, generator=torch.Generator().manual_seed(seed + 1))
        for logits in requests
    ]
    torch.testing.assert_close(_answers(added), _answers(requests), atol=1e-5, rtol=0)
    torch.testing.assert_close(_answers([logits.log_softmax(-1) for logits in requests]), _answers(requests))


def test_the_first_image_of_a_stream_is_as_the_network_saw_it() -> None:
    (logits,) = _stream(0, [1])
    answer, state = Cofa().correct(Cofa().init(0, 4), EMPTY, logits)
    torch.testing.assert_close(answer, logits.softmax(-1))
    assert torch.equal(state.logits, logits[0])
    assert state.filled.tolist() == [1.0]


def test_a_predecessor_helps_only_where_the_answer_becomes_surer() -> None:
    sure, unsure, opposed = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-3.0, 3.0]])
    answers = _answers([sure, unsure, opposed])
    torch.testing.assert_close(answers[1:2], ((sure + unsure) / 2).softmax(-1))
    assert answers[1].argmax() == 0
    torch.testing.assert_close(answers[2:], opposed.softmax(-1))


def test_a_predecessor_counts_as_the_network_saw_it() -> None:
    first, second, third = torch.tensor([[6.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0]])
    answers = _answers([first, second, third])
    # The second was answered as the first class, with logits [3, 0.5]; what the third is averaged with is [0, 1].
    assert answers[1].argmax() == 0
    torch.testing.assert_close(answers[2:], torch.tensor([[0.0, 0.5]]).softmax(-1))


def test_the_largest_logits_do_not_overflow() -> None:
    requests = [torch.tensor([[3e38, -3e38], [3e38, 0.0]]), torch.tensor([[3e38, 3e38]])]
    assert _answers(requests).tolist() == [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
