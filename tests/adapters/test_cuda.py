"""The same on a GPU: answers and states are those of the CPU, to what float32 sums in another order allow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapters import (
    AdaBN,
    AdaptiveModel,
    Key,
    Memory,
    Request,
    RobustBN,
    Source,
    Statistics,
    UnMixTNS,
    names,
    strategy,
)
from adapters.engine.moments import Affine, _in_one_pass, measure, normalize
from adapters.engine.network import to_batch
from app.models.resnet20 import ResNet20
from tests.nets import Dense, Head1d, PreActivation, Tiny, Twice, Volume, images, seeded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
NETS: list[tuple[type[nn.Module], int]] = [
    (Tiny, 16),
    (ResNet20, 32),
    (PreActivation, 16),
    (Dense, 16),
    (Twice, 16),
    (Head1d, 16),
    (Volume, 8),
]


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 rounds what convolutions read to ten bits: that would be compared, not what is done here."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def _requests(size: int, name: str) -> list[Request]:
    own, other = strategy(name), UnMixTNS(components=2) if name != "unmix_tns" else RobustBN()
    sizes = ((2, "a", own), (1, "b", own), (1, "a", other), (3, "a", own), (1, "c", Source()), (2, "b", AdaBN()))
    return [Request(images(n, k, size), stream, adapter) for k, (n, stream, adapter) in enumerate(sizes)]


@pytest.mark.parametrize("name", names("adapter"))
@pytest.mark.parametrize(("build", "size"), NETS)
def test_answers_and_states_are_those_of_the_cpu(build: type[nn.Module], size: int, name: str) -> None:
    gpu, cpu = AdaptiveModel(seeded(build), name, device="cuda"), AdaptiveModel(seeded(build), name)
    assert gpu.device.type == "cuda"
    for asked in (_requests(size, name), _requests(size, name)[:1]):
        for ours, theirs in zip(gpu.predict(asked), cpu.predict(asked), strict=True):
            assert ours.logits.device.type == "cuda"
            torch.testing.assert_close(ours.logits.cpu(), theirs.logits, rtol=1e-4, atol=1e-4)
            assert ours.drift == pytest.approx(theirs.drift, rel=1e-3)
            assert (ours.step, ours.updated, ours.finite) == (theirs.step, theirs.updated, theirs.finite)
    for ours_kept, theirs_kept in zip(gpu.state_dict()["streams"], cpu.state_dict()["streams"], strict=True):
        torch.testing.assert_close(ours_kept["row"].cpu(), theirs_kept["row"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", names("adapter"))
def test_glued_is_separate(name: str) -> None:
    model = AdaptiveModel(seeded(ResNet20), name, device="cuda")
    requests = _requests(32, name)
    glued = model.run(requests, {})
    memories: dict[Key, Memory] = {}
    for request, answer in zip(requests, glued.answers, strict=True):
        outcome = model.run([request], memories)
        memories.update(outcome.memories)
        torch.testing.assert_close(answer.logits, outcome.answers[0].logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", names("adapter"))
def test_states_stay_on_the_device(name: str) -> None:
    model = AdaptiveModel(seeded(ResNet20), name, device="cuda")
    for _ in range(2):
        model.predict(_requests(32, name))
    for key, memory in model._memories.items():
        assert memory.row.nbytes == model.state_bytes(key.adapter)
        assert memory.row.device.type == "cuda" or not len(memory.row)


@pytest.mark.parametrize("build", [Tiny, Head1d])
def test_images_may_lie_on_the_device_already_and_are_not_written_over(build: type[nn.Module]) -> None:
    model, there = AdaptiveModel(seeded(build), device="cuda"), images(3).cuda()
    before = there.clone()
    torch.testing.assert_close(model(there, update=False), model(images(3), update=False))
    assert torch.equal(there, before)


@pytest.mark.parametrize("name", names("adapter"))
def test_in_bfloat16_the_answers_are_near_and_the_states_float32(name: str) -> None:
    half = AdaptiveModel(seeded(ResNet20), name, device="cuda", dtype=torch.bfloat16)
    whole = AdaptiveModel(seeded(ResNet20), name)
    for k, n in enumerate((4, 1, 3)):
        answer, expected = half(images(n, k, 32)), whole(images(n, k, 32))
        assert answer.dtype == torch.bfloat16
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(answer.float().cpu(), expected, rtol=0.0, atol=0.06 * scale)
    assert all(entry["row"].dtype == torch.float32 for entry in half.state_dict()["streams"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_placed_goes_through_pinned_memory_and_leaves_what_is_there(dtype: torch.dtype) -> None:
    device = torch.device("cuda", 0)
    parts = [(100 * images(n, n)).to(dtype) for n in (2, 1, 3)]
    for given in (parts, parts[:1]):
        assert torch.equal(to_batch(given, device).cpu(), torch.cat(given))
    there = parts[0].to(device)
    assert to_batch([there], device).data_ptr() == there.data_ptr()
    assert torch.equal(to_batch([there, parts[1].to(device)], device).cpu(), torch.cat(parts[:2]))


def test_many_placements_in_flight_do_not_mix() -> None:
    """Staging memory must not be reused before its copy has ended."""
    device = torch.device("cuda", 0)
    busy = torch.randn(2048, 2048, device=device)
    for _ in range(20):
        busy = busy @ busy / 2048
    given = [torch.full((8, 3, 64, 64), float(k)) for k in range(50)]
    there = [to_batch([x], device) for x in given]
    assert all(torch.equal(x.cpu(), y) for x, y in zip(there, given, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (2, 8, 16, 16), (1, 64, 56, 56), (1, 4, 2, 5, 6), (2, 3, 1, 1)])
def test_moments_are_those_of_double_precision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for ratio in (0.0, 1e3):
        x = (ratio + torch.randn(shape, generator=torch.Generator().manual_seed(1))).to("cuda", dtype)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        flat = x.double().reshape(*shape[:2], -1)
        mean, var = flat.mean(2), flat.var(2, correction=0)
        found = [measure(x).values] + ([_in_one_pass(x.float())] if flat.shape[2] > 1 else [])
        for both in found:
            ours_mean, ours_var = both.double().chunk(2, 1)
            torch.testing.assert_close(ours_mean, mean, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(ours_var, var, rtol=1e-4, atol=1e-6)
        used = Statistics(*measure(x).of(slice(None))[:2])
        out = normalize(x, used, Affine(None, None, 1e-5))
        assert out.dtype == dtype
        assert bool(out.isfinite().all())


def test_a_state_goes_from_one_device_to_the_other() -> None:
    gpu, cpu = AdaptiveModel(seeded(Tiny), device="cuda"), AdaptiveModel(seeded(Tiny))
    gpu(images(4))
    cpu.load_state_dict(gpu.state_dict())
    torch.testing.assert_close(cpu(images(2)), gpu(images(2)).cpu(), rtol=1e-4, atol=1e-4)
    gpu.load_state_dict(cpu.state_dict())
    torch.testing.assert_close(gpu(images(1)).cpu(), cpu(images(1)), rtol=1e-4, atol=1e-4)
