"""AdaptiveModel: what it leaves alone, what it refuses, what it remembers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters import (
    STRATEGIES,
    AdaBN,
    AdaptiveModel,
    AnyAdapter,
    InputError,
    Request,
    RobustBN,
    Source,
    UnMixTNS,
    names,
    strategy,
)
from tests.nets import CLASSES, Explosive, Tiny, images, seeded


def _snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _rows(model: AdaptiveModel) -> dict[tuple[Any, str], Tensor]:
    return {(entry["stream"], entry["strategy"]): entry["row"] for entry in model.state_dict()["streams"]}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_callers_network_is_not_touched(name: str, training: bool) -> None:
    network = seeded(Tiny).train(training)
    before, flags = _snapshot(network), [parameter.requires_grad for parameter in network.parameters()]
    model = AdaptiveModel(network, name)
    for n in (1, 4):
        model(images(n))
    assert all(module.training is training for module in network.modules())
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_later_changes_of_the_callers_network_do_not_reach_the_model() -> None:
    network = seeded(Tiny)
    model = AdaptiveModel(network, "source")
    before = model(images(2))
    for parameter in network.parameters():
        parameter.data.zero_()
    network.train()
    assert torch.equal(model(images(2)), before)


def test_the_images_are_not_touched_and_the_answer_needs_no_gradient() -> None:
    batch = images(3)
    before = batch.clone()
    logits = AdaptiveModel(seeded(Tiny).train(), "adabn")(batch.requires_grad_())
    assert torch.equal(batch, before)
    assert not logits.requires_grad
    assert logits.shape == (3, CLASSES)


def test_dropout_stays_off() -> None:
    network = seeded(Tiny).train()
    model = AdaptiveModel(network, "bn")
    answers = [model(images(4)) for _ in range(3)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(network(images(4)), network(images(4)))  # the network itself is noisy in train mode


def test_a_strategy_is_a_name_with_hyperparameters_or_an_instance() -> None:
    assert AdaptiveModel(Tiny()).strategy == strategy("auto")
    assert AdaptiveModel(Tiny(), "adabn").adapter == AdaBN()
    assert AdaptiveModel(Tiny(), "unmix_tns", components=4).adapter == UnMixTNS(components=4)
    assert AdaptiveModel(Tiny(), RobustBN(0.5)).adapter == RobustBN(0.5)
    with pytest.raises(TypeError, match="pass hyperparameters to the instance's constructor"):
        AdaptiveModel(Tiny(), RobustBN(0.5), momentum=0.1)


def test_a_stream_adapts_and_forgets() -> None:
    model = AdaptiveModel(seeded(Tiny), "adabn", momentum=0.5)
    first = model(images(8))
    second = model(images(8))
    assert not torch.allclose(first, second, atol=1e-3)
    model(images(8), stream="other")
    model.reset("default")
    assert set(_rows(model)) == {("other", "adabn")}
    assert torch.equal(model(images(8)), first)
    model.reset()
    assert _rows(model) == {}
    assert torch.equal(model(images(8)), first)


def test_reset_forgets_a_stream_with_every_strategy() -> None:
    model = AdaptiveModel(seeded(Tiny))
    model.predict([Request(images(2), stream, a) for stream in "ab" for a in (AdaBN(), RobustBN())])
    model.reset("a")
    assert set(_rows(model)) == {("b", "adabn"), ("b", "robust_bn")}
    model.reset("never seen")
    assert len(_rows(model)) == 2


def test_answers_report_step_and_update() -> None:
    model = AdaptiveModel(seeded(Tiny))
    first, looked, second, other = model.predict(
        [
            Request(images(2)),
            Request(images(3), update=False),
            Request(images(1)),
            Request(images(4), strategy=RobustBN()),
        ]
    )
    assert [answer.step for answer in (first, looked, second, other)] == [1, 1, 2, 1]
    assert [answer.updated for answer in (first, looked, second, other)] == [True, False, True, True]
    assert [len(answer.logits) for answer in (first, looked, second, other)] == [2, 3, 1, 4]
    assert all(answer.finite for answer in (first, looked, second, other))
    assert model.predict([Request(images(1))])[0].step == 3


def test_update_false_creates_no_stream() -> None:
    model = AdaptiveModel(seeded(Tiny))
    logits = model(images(2), update=False)
    assert _rows(model) == {}
    assert torch.equal(model(images(2)), logits)


def test_update_false_reads_the_state_before_it() -> None:
    model = AdaptiveModel(seeded(Tiny), "adabn", momentum=0.9)
    glued = model.predict([Request(images(4)), Request(images(2, 1), update=False), Request(images(2, 1))])
    torch.testing.assert_close(glued[1].logits, glued[2].logits, rtol=1e-5, atol=1e-5)
    fresh = AdaptiveModel(seeded(Tiny), "adabn", momentum=0.9)(images(2, 1))
    assert not torch.allclose(glued[1].logits, fresh, atol=1e-3)


def test_two_strategies_in_one_forward_each_answer_as_alone() -> None:
    network = seeded(Tiny)
    model = AdaptiveModel(network)
    given: list[tuple[AnyAdapter, int]] = [(Source(), 2), (UnMixTNS(), 3), (RobustBN(), 1)]
    answers = model.predict([Request(images(n, n), "same", adapter) for adapter, n in given])
    for (adapter, n), answer in zip(given, answers, strict=True):
        alone = AdaptiveModel(network, adapter)(images(n, n))
        torch.testing.assert_close(answer.logits, alone, rtol=1e-5, atol=1e-5)


def test_images_that_are_not_finite_are_refused_before_anything_happens() -> None:
    model = AdaptiveModel(seeded(Tiny), "adabn")
    model(images(2))
    before = _rows(model)
    for value in (torch.nan, torch.inf):
        bad = images(2)
        bad[1, 0, 3, 3] = value
        with pytest.raises(InputError, match="contain NaN or infinity: check their preprocessing; nothing was learned"):
            model.predict([Request(images(1)), Request(bad, "b")])
    assert _rows(model).keys() == before.keys()
    assert torch.equal(_rows(model)["default", "adabn"], before["default", "adabn"])


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_request_that_overflows_harms_nobody_else(name: str) -> None:
    """Its neighbours are answered and committed as without it, and so are later requests of its own stream."""
    bad = images(2, 7)
    bad[1] = 1e3
    requests = [Request(images(2, 1), "a"), Request(bad, "a"), Request(images(1, 2), "b"), Request(images(3, 3), "a")]
    model, calm = AdaptiveModel(seeded(Explosive), name), AdaptiveModel(seeded(Explosive), name)
    answers = model.predict(requests)
    expected = calm.predict([requests[0], requests[2], requests[3]])
    assert [answer.finite for answer in answers] == [True, False, True, True]
    assert [answer.updated for answer in answers] == [True, False, True, True]
    assert [answer.step for answer in answers] == [1, 1, 1, 2]
    for ours, theirs in zip((answers[0], *answers[2:]), expected, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
    for key, row in _rows(calm).items():
        torch.testing.assert_close(_rows(model)[key], row, rtol=1e-5, atol=1e-5)
    assert not model.predict([requests[1]])[0].updated


def test_a_state_that_overflows_is_not_kept_even_if_the_answer_is_finite() -> None:
    model = AdaptiveModel(seeded(Tiny), "adabn")
    model(images(2))
    before = _rows(model)["default", "adabn"]
    answer = model.predict([Request(1e25 * images(2))])[0]  # its variance is beyond float32: it normalizes to the bias
    assert answer.logits.isfinite().all()
    assert not answer.finite
    assert not answer.updated
    assert torch.equal(_rows(model)["default", "adabn"], before)


class Failing(Tiny):
    """Raises for images of 9 px, when its BatchNorm has been passed."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if x.shape[-1] == 9:
            raise RuntimeError("out of memory")
        return out


def test_an_exception_in_the_network_changes_nothing() -> None:
    model = AdaptiveModel(seeded(Failing), "adabn")
    model(images(2))
    before = _rows(model)["default", "adabn"]
    with pytest.raises(RuntimeError, match="out of memory"):
        model.predict([Request(images(2, size=9)), Request(images(1, size=9), "b")])
    assert list(_rows(model)) == [("default", "adabn")]
    assert torch.equal(_rows(model)["default", "adabn"], before)


def test_run_is_pure() -> None:
    model = AdaptiveModel(seeded(Tiny))
    first = model.run([Request(images(2))], {})
    key, memory = next(iter(first.memories.items()))
    row = memory.row.clone()
    again = [model.run([Request(images(2, 1))], first.memories) for _ in range(2)]
    assert torch.equal(again[0].answers[0].logits, again[1].answers[0].logits)
    assert torch.equal(memory.row, row)
    assert first.memories == {key: memory}
    assert _rows(model) == {}


def test_sync_batchnorm_works_without_a_process_group() -> None:
    plain = seeded(Tiny)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(seeded(Tiny))  # type: ignore[no-untyped-call]
    for name in ("source", "adabn", "unmix_tns"):
        torch.testing.assert_close(AdaptiveModel(synced, name)(images(3)), AdaptiveModel(plain, name)(images(3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", [*names("adapter"), *names("learner")])
def test_networks_of_other_precision_answer_in_theirs_and_remember_in_float32(name: str, dtype: torch.dtype) -> None:
    model = AdaptiveModel(seeded(Tiny).to(dtype), name)
    logits = model(images(3).to(dtype))
    assert logits.dtype == dtype
    expected = AdaptiveModel(seeded(Tiny), name)(images(3))
    loose = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float64: 1e-5}[dtype]
    torch.testing.assert_close(logits.float(), expected, rtol=loose, atol=loose)
    assert all(row.dtype == torch.float32 for row in _rows(model).values())


def test_state_bytes_are_four_a_number() -> None:
    model = AdaptiveModel(seeded(Tiny), "robust_bn")
    assert model.state_bytes() == 4 * 2 * 6
    assert model.state_bytes(Source()) == 0
    assert model.state_bytes(UnMixTNS(components=4)) == 4 * 8 * 6
