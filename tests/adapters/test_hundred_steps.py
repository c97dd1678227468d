"""Every registered strategy and every sensible pair, a hundred requests long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from adapters import AdaptiveModel, Key, Request, names
from tests.nets import CLASSES, Tiny, images, learning_early, seeded

SIZES = (1, 3, 2, 1, 5)


def _pairs() -> Iterator[str]:
    yield from names("learner")
    yield from names("corrector")
    for adapter in names("adapter"):
        yield adapter
        for other in (*names("learner"), *names("corrector")):
            yield f"{adapter}+{other}"
    for learner in names("learner"):
        yield from (f"{learner}+{corrector}" for corrector in names("corrector"))
    yield from ("temperature+lame", "cofa+lame", "adabn+cofa+temperature+lame", "unmix_tns+tent+cofa+lame")


@pytest.mark.parametrize("name", list(_pairs()))
def test_a_hundred_requests_leave_answers_and_states_sound(name: str) -> None:
    model = AdaptiveModel(seeded(Tiny), learning_early(name))
    sizes: dict[Key, set[int]] = {}
    for step in range(50):
        n = SIZES[step % len(SIZES)]
        answers = model.predict([Request(images(n, step), "a"), Request(images(2, step + 1000), "b")])
        for answer, images_shown in zip(answers, (n, 2), strict=True):
            assert answer.finite
            assert answer.updated
            assert answer.step == step + 1
            assert answer.logits.shape == (images_shown, CLASSES)
            assert torch.isfinite(answer.logits).all()
        for key, memory in model.memories().items():
            sizes.setdefault(key, set()).add(memory.bytes)
    # However long a stream is, it takes as much as after its first lesson.
    assert {key.stream for key in sizes} == {"a", "b"}
    assert all(len(found) == 1 for found in sizes.values())
    assert {size for found in sizes.values() for size in found} == {model.state_bytes()}


@pytest.mark.parametrize("name", ["rotta", "unmix_tns+tent", "adabn+lame", "robust_bn+cofa", "adabn+core+temperature"])
def test_an_exported_stream_goes_on_elsewhere_as_if_nothing_had_happened(name: str) -> None:
    params = {"capacity": 4, "update_every": 3} if "rotta" in name else {}
    ours = AdaptiveModel(seeded(Tiny), learning_early(name, params))
    theirs = AdaptiveModel(seeded(Tiny), learning_early(name, params))
    for step in range(8):
        ours.predict([Request(images(3, step), "a")])
    theirs.load_state_dict(ours.state_dict())
    for step in range(8, 14):
        a, b = (model.predict([Request(images(3, step), "a")])[0] for model in (ours, theirs))
        assert torch.equal(a.logits, b.logits)
        assert a.step == b.step
