"""What LAME remembers of a stream: images that take part in later requests, and how often predictions repeat."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters.correctors.affinity import AFFINITIES, assign, directions
from adapters.correctors.lame import Lame, count_predictions, is_correlated

plain = partial(Lame, affinity="knn", memory=0, when="always")

QUICK = settings(max_examples=20, deadline=None, derandomize=True)
SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=6)
GATED = plain(when="correlated")


def _stream(seed: int, sizes: list[int], classes: int = 4, features: int = 6) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, features, generator=generator), 2 * torch.randn(n, classes, generator=generator)) for n in sizes
    ]


@QUICK
@given(st.integers(0, 10**6), SIZES, st.integers(1, 12), st.sampled_from(sorted(AFFINITIES)))
def test_the_images_before_take_part_with_the_networks_own_answers(
    seed: int, sizes: list[int], memory: int, kind: str
) -> None:
    lame = plain(memory=memory, affinity=kind, neighbours=3)
    state, past = lame.init(6, 4), _stream(seed, [1])[0]
    past = (past[0][:0], past[1][:0])
    for request in _stream(seed, sizes):
        answer, state = lame.correct(state, *request)
        expected = []
        # As many at a time as are remembered.
        for features, logits in zip(*(torch.split(part, memory) for part in request), strict=True):
            together = [torch.cat([old, new]) for old, new in zip(past, (features, logits), strict=True)]
            if len(together[0]) < 2:
                expected.append(logits.softmax(-1))
            else:
                scores = (together[1].double().softmax(-1) + 1e-10).log()
                joint = assign(scores, AFFINITIES[kind](directions(together[0]), 3), 1.0, 100)
                expected.append(joint[-len(logits) :].float())
            past = (together[0][-memory:], together[1][-memory:])
        # What is remembered is rounded to float32, which may move the end of the iteration by one.
        torch.testing.assert_close(answer, torch.cat(expected), atol=1e-4, rtol=0)


def test_large_requests_are_corrected_as_if_they_had_come_in_pieces() -> None:
    lame, (features, logits) = Lame(memory=8, when="always"), _stream(3, [40])[0]
    whole, after = lame.correct(lame.init(6, 4), features, logits)
    state, pieces = lame.init(6, 4), []
    for piece in zip(torch.split(features, 8), torch.split(logits, 8), strict=True):
        answer, state = lame.correct(state, *piece)
        pieces.append(answer)
    torch.testing.assert_close(whole, torch.cat(pieces))
    assert all(torch.equal(a, b) for a, b in zip(after, state, strict=True))


@QUICK
@given(st.integers(0, 10**6), SIZES, st.integers(1, 12))
def test_the_latest_images_are_remembered_and_the_oldest_leave_first(seed: int, sizes: list[int], memory: int) -> None:
    lame, requests = plain(memory=memory), _stream(seed, sizes)
    state = lame.init(6, 4)
    for features, logits in requests:
        _, state = lame.correct(state, features, logits)
    features, logits = (torch.cat(parts)[-memory:] for parts in zip(*requests, strict=True))
    held = len(features)
    assert state.filled.tolist() == [held]
    torch.testing.assert_close(state.features[memory - held :], torch.nn.functional.normalize(features))
    torch.testing.assert_close(state.scores[memory - held :], logits.log_softmax(-1), atol=1e-5, rtol=1e-5)
    assert not bool(state.features[: memory - held].any())


def test_a_single_image_is_corrected_by_those_before_it() -> None:
    lame = plain(memory=4, neighbours=3)
    state = lame.init(2, 2)
    for x in (0.0, 0.01, 0.02):
        _, state = lame.correct(state, torch.tensor([[1.0, x]]), torch.tensor([[3.0, 0.0]]))
    answer, _ = lame.correct(state, torch.tensor([[1.0, 0.03]]), torch.tensor([[0.0, 0.5]]))
    assert answer.argmax() == 0


@pytest.mark.parametrize("memory", [0, 8])
def test_a_closed_gate_leaves_the_answer_and_remembers_all_the_same(memory: int) -> None:
    gated, always = plain(when="correlated", memory=memory), plain(memory=memory)
    state, open_state = gated.init(6, 4), always.init(6, 4)
    ((features, logits),) = _stream(0, [6])
    logits = logits + 9 * torch.eye(4)[[0, 1, 2, 3, 0, 1]]  # no two in a row alike
    answer, state = gated.correct(state, features, logits)
    _, open_state = always.correct(open_state, features, logits)
    torch.testing.assert_close(answer, logits.softmax(-1))
    for kept, expected in zip(state[:3], open_state[:3], strict=True):
        assert torch.equal(kept, expected)


@pytest.mark.parametrize("memory", [0, 8])
def test_an_open_gate_gives_what_always_gives(memory: int) -> None:
    gated, always = plain(when="correlated", memory=memory), plain(memory=memory)
    state, open_state = gated.init(6, 10), always.init(6, 10)
    for features, logits in _stream(1, [64, 5, 1], classes=10):
        shifted = logits + 20 * torch.eye(10)[3]
        answer, state = gated.correct(state, features, shifted)
        expected, open_state = always.correct(open_state, features, shifted)
        assert torch.equal(answer, expected)
        assert len(logits) == 1 or not torch.allclose(answer, shifted.softmax(-1), atol=1e-9)


class Loop:
    """The gate by its published formulas, one image at a time, in double precision."""

    def __init__(self, classes: int) -> None:
        self.q = [1.0 / classes] * classes
        self.rate, self.last, self.images = 0.0, -1, 0

    def see(self, label: int) -> None:
        self.images += 1
        weight = 1 / min(20 + self.images, 200)
        self.q = [(1 - weight) * q + weight * (k == label) for k, q in enumerate(self.q)]
        if self.images > 1:
            weight = 1 / min(self.images - 1, 100)
            self.rate += weight * ((label == self.last) - self.rate)
        self.last = label

    def excess(self) -> float:
        """How far the rate is above both bounds."""
        pairs = self.images - 1
        if pairs < 1:
            return -math.inf
        s = math.fsum(q**2 for q in self.q)
        variance = max(0.0, s + 2 * math.fsum(q**3 for q in self.q) - 3 * s**2)
        significant = 3 * math.sqrt(variance / min(pairs, 199)) + 1.5 / min(pairs, 100)
        return self.rate - s - max(significant, min(s, 0.25 * (1 - s)))


def _draws(weights: list[float], images: int, seed: int = 0) -> Tensor:
    return torch.multinomial(torch.tensor(weights), images, True, generator=torch.Generator().manual_seed(seed))


def _opened(labels: Tensor, classes: int, size: int) -> list[bool]:
    """Whether the gate is open at each request of that size."""
    state, opened = GATED.init(1, classes), []
    for request in torch.split(labels, size):
        state = count_predictions(state, request)
        opened.append(is_correlated(state))
    return opened


@pytest.mark.parametrize("stay", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("classes", [1, 2, 10, 300])
def test_the_gate_is_that_of_the_loop_however_the_stream_is_cut(classes: int, stay: float) -> None:
    labels = _draws([1.0] * classes, 1300).tolist()
    moves = torch.rand(1300, generator=torch.Generator().manual_seed(2)).tolist()
    for i, move in enumerate(moves[1:], start=1):
        labels[i] = labels[i - 1] if move < stay else labels[i]
    loop, state, at = Loop(classes), GATED.init(1, classes), 0
    for size in [1, 1, 1, 2, 3, 50, 64, 150, *[17] * 60]:
        request = labels[at : at + size]
        at += size
        for label in request:
            loop.see(label)
        state = count_predictions(state, torch.tensor(request))
        torch.testing.assert_close(state.classes.double(), torch.tensor(loop.q).double(), atol=1e-5, rtol=1e-4)
        assert float(state.repeats) == pytest.approx(loop.rate, abs=1e-5)
        assert (state.last.tolist(), state.images.tolist()) == ([loop.last], [min(loop.images, 200)])
        if abs(loop.excess()) > 1e-4:
            assert is_correlated(state) == (loop.excess() > 0)


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("classes", [10, 1000])
def test_independent_predictions_do_not_open_it(classes: int, size: int) -> None:
    opened = _opened(_draws([1.0] * classes, 20_000), classes, size)
    assert sum(opened) < 0.01 * len(opened)


@pytest.mark.parametrize("seed", range(2))
def test_independent_predictions_one_by_one_do_not_open_it(seed: int) -> None:
    # By the loop, which the gate equals: it is quicker for single images.
    loop, opened = Loop(10), 0
    for label in _draws([1.0] * 10, 20_000, seed).tolist():
        loop.see(label)
        opened += loop.excess() > 0
    assert opened < 200
    assert sum(_opened(_draws([1.0] * 10, 1000, seed), 10, 1)) < 10


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_class_that_dominates_opens_it_only_until_that_is_known(classes: int, share: float) -> None:
    weights = [share] + [(1 - share) / (classes - 1)] * (classes - 1)
    opened = _opened(_draws(weights, 12_000), classes, 40)[2000 // 40 :]
    assert sum(opened) < 0.01 * len(opened)


@pytest.mark.parametrize(("classes", "run"), [(10, 250), (10, 50), (10, 5), (1000, 50), (1000, 5)])
def test_sorted_predictions_open_it_within_ten_images_and_keep_it_open(classes: int, run: int) -> None:
    labels = torch.arange(max(400 // run, 2)).remainder(classes).repeat_interleave(run)[:1400]
    opened = _opened(labels, classes, 1)
    assert opened.index(True) < 10
    # The first change of class may close it for a moment, while there are few pairs.
    assert sum(opened[4:20]) >= 14
    assert all(opened[20:])


def test_a_first_request_of_sorted_images_is_caught() -> None:
    assert _opened(torch.arange(4).repeat_interleave(16), 10, 64) == [True]


@pytest.mark.parametrize("seed", range(3))
def test_gate_opens_soon_after_a_stream_becomes_correlated_and_closes_again(seed: int) -> None:
    sorted_part = torch.arange(10).repeat_interleave(30)
    labels = torch.cat([_draws([1.0] * 10, 600, seed), sorted_part, _draws([1.0] * 10, 600, seed + 10)])
    opened = _opened(labels, 10, 1)
    # A quarter of a hundred pairs must repeat before they are a quarter of what could.
    assert opened[600:].index(True) < 40
    assert all(opened[640:900])
    assert not any(opened[1300:])


def test_runs_with_errors_keep_it_open() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 10, (100,), generator=generator).repeat_interleave(10)
    wrong = torch.randint(0, 10, (1000,), generator=generator)
    labels = torch.where(torch.rand(1000, generator=generator) < 0.6, true, wrong)
    opened = _opened(labels, 10, 1)
    assert sum(opened) > 0.8 * len(opened)


def _of_a_weak_network(true: Tensor, accuracy: float, favourite: float, seed: int = 0) -> Tensor:
    """Predictions of ten classes: right, or else mostly of one class, or of any."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.randint(0, 10, true.shape, generator=generator)
    wrong = torch.where(torch.rand(true.shape, generator=generator) < favourite, 3, wrong)
    return torch.where(torch.rand(true.shape, generator=generator) < accuracy, true, wrong)


@pytest.mark.parametrize("run", [1, 10, 100])
@pytest.mark.parametrize("favourite", [0.5, 0.9])
def test_a_network_that_answers_one_class_for_most_images_does_not_open_it(favourite: float, run: int) -> None:
    true = torch.randint(0, 10, (2000 // run,), generator=torch.Generator().manual_seed(1)).repeat_interleave(run)
    opened = _opened(_of_a_weak_network(true, 0.2, favourite), 10, 16)
    assert sum(opened) < 0.1 * len(opened)


@pytest.mark.parametrize(("run", "most"), [(1, 40), (10, 400)])
def test_a_change_to_a_domain_where_the_network_fails_opens_it_for_few_images(run: int, most: int) -> None:
    true = torch.randint(0, 10, (100,), generator=torch.Generator().manual_seed(1)).repeat_interleave(run)
    shuffled = _draws([1.0] * 10, 2000, 2)
    labels = torch.cat([_of_a_weak_network(true, 0.95, 0.0), _of_a_weak_network(shuffled, 0.2, 0.7, seed=1)])
    opened = _opened(labels, 10, 1)[len(true) :]
    assert sum(opened) < most
    assert not any(opened[400:])


def test_a_stream_of_one_class_alone_is_left_in_the_end() -> None:
    opened = _opened(torch.zeros(2000, dtype=torch.long), 10, 10)
    assert all(opened[1:27])
    assert not any(opened[28:])
    others = torch.arange(10).repeat_interleave(50)
    later = _opened(torch.cat([others, torch.zeros(2000, dtype=torch.long)]), 10, 10)[50:]
    assert all(later[:56])
    assert not any(later[58:])


def test_hyperparameters_decide_what_has_entries() -> None:
    def sizes(lame: Lame) -> list[int]:
        return [part.numel() for part in lame.init(6, 4)]

    assert sizes(plain()) == [0, 0, 0, 0, 0, 0, 0]
    assert sizes(plain(memory=3)) == [18, 12, 1, 0, 0, 0, 0]
    assert sizes(plain(when="correlated")) == [0, 0, 0, 4, 1, 1, 1]
