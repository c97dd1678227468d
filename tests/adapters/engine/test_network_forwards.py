"""Networks that switch something on in their own forward, hide their BatchNorm, or keep gradients out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adapters import AdaptiveModel, Request, UnsupportedModelError, names
from adapters.errors import AdapterError
from tests.nets import Tiny, images, seeded

HALF = torch.bfloat16


class Switching(Tiny):
    """Does in its forward what its subclasses say."""

    def switched(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Autocast(Switching):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=HALF):
            return self.switched(x)


class NoGrad(Switching):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.switched(x)


class Inference(Switching):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.switched(x)


class Gradients(Switching):
    """Asks for gradients of its input, as saliency maps do."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self.switched(x.clone().requires_grad_())


class Double(Switching):
    """Changes the type that new tensors have while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        try:
            return self.switched(x)
        finally:
            torch.set_default_dtype(torch.float32)


SWITCHING = [Autocast, NoGrad, Inference, Gradients, Double]
ADAPTERS, LEARNERS = names("adapter"), ("tent", "core", "rotta")


def rows(model: AdaptiveModel) -> list[Tensor]:
    return [memory.row for memory in model.memories().values()]


def tolerance(kind: type[Tiny]) -> float:
    return 0.1 if kind is Autocast else 1e-5


@pytest.mark.parametrize("kind", SWITCHING)
@pytest.mark.parametrize("name", ADAPTERS)
def test_modes_of_a_forward_do_not_reach_the_arithmetic_of_adapters(kind: type[Tiny], name: str) -> None:
    switching, plain = AdaptiveModel(seeded(kind), name), AdaptiveModel(seeded(Tiny), name)
    for n in (1, 4, 2):
        for stream in "ab":
            request = [Request(images(n, seed=n), stream)]
            (ours,), (theirs,) = switching.predict(request), plain.predict(request)
            torch.testing.assert_close(ours.logits.float(), theirs.logits, rtol=0.1, atol=tolerance(kind))
            assert not ours.logits.requires_grad
    for row, expected in zip(rows(switching), rows(plain), strict=True):
        assert row.dtype == torch.float32
        assert not row.requires_grad
        assert not row.is_inference()
        torch.testing.assert_close(row, expected, rtol=1e-2, atol=tolerance(kind) / 10)


@pytest.mark.parametrize("kind", SWITCHING)
def test_small_steps_add_up_whoever_shares_the_forward(kind: type[Tiny]) -> None:
    alone, glued = (AdaptiveModel(seeded(kind), "adabn") for _ in range(2))
    for seed in range(40):
        x = images(1, seed) + 1
        alone(x, stream="a")
        glued.predict([Request(x, "a"), Request(images(2, seed), "b", strategy=None)])
    (one,), (other, _) = rows(alone), rows(glued)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adabn", "unmix_tns", "adabn+lame"])
def test_autocast_of_the_caller_changes_the_network_alone(name: str) -> None:
    inside, outside = AdaptiveModel(seeded(Tiny), name), AdaptiveModel(seeded(Tiny), name)
    for seed in range(3):
        with torch.autocast("cpu", dtype=HALF):
            inside(images(3, seed))
        outside(images(3, seed))
    (ours,), (theirs,) = inside.memories().values(), outside.memories().values()
    assert ours.row.dtype == torch.float32
    torch.testing.assert_close(ours.row, theirs.row, rtol=1e-2, atol=1e-2)


# Learners


class WithoutAffine(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(6, affine=False)


class Detached(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.bn(self.conv(x))).mean((2, 3)).detach())
        return out


class FromNumpy(Tiny):
    """Leaves torch on its way."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.from_numpy(self.bn(self.conv(x)).numpy()).mean((2, 3)))
        return out


@pytest.mark.parametrize("kind", [WithoutAffine, NoGrad, Inference, Detached, FromNumpy])
@pytest.mark.parametrize("name", [*LEARNERS, "unmix_tns+tent"])
def test_a_learner_that_can_move_nothing_is_refused_before_any_step(kind: type[Tiny], name: str) -> None:
    model = AdaptiveModel(seeded(kind), name)
    for call in (model.predict, lambda requests: model.run(requests, {})):
        with pytest.raises(UnsupportedModelError, match="cannot change anything"):
            call([Request(images(3))])
    assert not model.memories()
    warm = AdaptiveModel(seeded(kind), "adabn")
    warm.warm_up(images(1))
    with pytest.raises(UnsupportedModelError, match="cannot change anything"):
        warm.check(model.strategy)


@pytest.mark.parametrize("kind", [Tiny, Autocast, Gradients, Double])
@pytest.mark.parametrize("name", ["tent", "rotta"])
def test_a_learner_moves_what_can_be_moved(kind: type[Tiny], name: str) -> None:
    params: dict[str, Any] = {"update_every": 4} if name == "rotta" else {}
    model = AdaptiveModel(seeded(kind), name, lr=0.05, **params)
    for seed in range(4):
        model(images(8, seed))
    (memory,) = model.memories().values()
    assert memory.parts[0][0].abs().max() > 0
    assert memory.parts[0][0].dtype == torch.float32


# Layers that hide


class ByHand(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        assert self.running_var is not None
        assert self.running_mean is not None
        scale = self.weight / (self.running_var + self.eps).sqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


def calling(function: Callable[..., Any], form: str) -> type[nn.BatchNorm2d]:
    """A layer that calls another form of BatchNorm than torch's own layers do."""

    class Layer(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            mean, var = self.running_mean, self.running_var
            if form == "functional":
                assert mean is not None
                assert var is not None
                return F.batch_norm(x, mean.clone(), var.double().float(), self.weight, self.bias, False, 0.0, self.eps)
            given: list[Any] = [x, self.weight, self.bias, mean, var]
            given += [] if form == "inference" else [False]
            given += [0.1, self.eps, *([False] if form == "builtin" else [])]
            out = function(*given)
            answer: Tensor = out if isinstance(out, Tensor) else out[0]
            return answer

    return Layer


ATEN = torch.ops.aten
HIDING = {
    "copied buffers": calling(F.batch_norm, "functional"),
    "torch.batch_norm": calling(torch.batch_norm, "builtin"),
    "torch.native_batch_norm": calling(torch.native_batch_norm, "native"),
    "aten.batch_norm": calling(ATEN.batch_norm, "builtin"),
    "aten.batch_norm.default": calling(ATEN.batch_norm.default, "builtin"),
    "aten.native_batch_norm": calling(ATEN.native_batch_norm, "native"),
    "aten.legit": calling(ATEN._native_batch_norm_legit_no_training, "inference"),
}


class Two(nn.Module):
    def __init__(self, second: type[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3), second(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.first(x)))
        return out


@pytest.mark.parametrize("form", HIDING)
@pytest.mark.parametrize("name", ["source", "adabn", "unmix_tns", "tent"])
def test_every_form_of_batch_norm_is_adapted_alike(form: str, name: str) -> None:
    hiding = AdaptiveModel(seeded(lambda: Two(HIDING[form])), name)
    plain = AdaptiveModel(seeded(lambda: Two(nn.BatchNorm2d)), name)
    for seed in range(3):
        torch.testing.assert_close(hiding(images(4, seed)), plain(images(4, seed)), rtol=1e-4, atol=1e-4)
    assert hiding.unreached == ()


def test_a_layer_that_no_forward_reaches_is_named_and_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    model = AdaptiveModel(seeded(lambda: Two(ByHand)), "adabn")
    both = model.state_bytes()
    with caplog.at_level(logging.WARNING, "renorm"):
        model.warm_up(images(1))
    assert "1 of 2 BatchNorm layers are not reached" in caplog.text
    assert model.unreached == ("second.1",)
    assert [site.name for site in model.sites] == ["first.1"]
    assert model.state_bytes() - 4 * (2 * 6 + 2) == both - 4 * 2 * 8
    model(images(3))
    (memory,) = model.memories().values()
    assert len(memory.row) == 2 * 6
    other = AdaptiveModel(seeded(lambda: Two(ByHand)), "adabn")
    other.warm_up(images(1))
    other.load_state_dict(model.state_dict())


def test_a_network_none_of_whose_layers_is_reached_is_refused() -> None:
    with pytest.raises(AdapterError, match="reached none"):
        AdaptiveModel(nn.Sequential(ByHand(3)).eval())(images(2))


class Deciding(Tiny):
    """Calls its second layer for large images only."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.large(x) if x.shape[2] > 16 else x)


def test_a_layer_that_is_reached_after_all_becomes_a_site() -> None:
    model = AdaptiveModel(seeded(Deciding), "adabn")
    model.warm_up(images(1))
    assert model.unreached == ("large",)
    model(images(2))
    model(images(2, size=20))
    assert [site.name for site in model.sites] == ["bn", "large"]
    assert len(next(iter(model.memories().values())).row) == 2 * 9


# Networks that their owner has compiled


def compiled_whole() -> nn.Module:
    network: Any = torch.compile(seeded(Tiny), backend="eager")
    return network  # type: ignore[no-any-return]


def compiled_inside() -> nn.Module:
    network: Any = seeded(Tiny)
    network.bn = torch.compile(network.bn, backend="eager")
    return network  # type: ignore[no-any-return]


def compiled_in_place() -> nn.Module:
    network = seeded(Tiny)
    network.compile(backend="eager")
    return network


@pytest.mark.parametrize("build", [compiled_whole, compiled_inside, compiled_in_place])
@pytest.mark.parametrize("name", ["source", "adabn", "unmix_tns", "adabn+lame"])
def test_a_network_that_was_compiled_before_answers_as_the_plain_one(build: Callable[[], nn.Module], name: str) -> None:
    ours, theirs = AdaptiveModel(build(), name), AdaptiveModel(seeded(Tiny), name)
    for seed in range(2):
        torch.testing.assert_close(ours(images(3, seed)), theirs(images(3, seed)), rtol=1e-6, atol=1e-6)
    assert [site.name for site in ours.sites] == ["bn"]


# Training mode, and gradients that are computed anew


class Dropping(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.drop(x))


class TrainingItself(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        self.train()
        return super().forward(x)


class TrainingParts(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        for part in self.modules():
            if isinstance(part, nn.Dropout | nn.BatchNorm2d):
                part.train()
        return super().forward(x)


class MonteCarlo(Dropping):
    """Its dropout stays on whatever mode it is put in."""

    def train(self, mode: bool = True) -> MonteCarlo:
        super().train(mode)
        self.drop.train()
        return self


class Fixed(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1, self.eps)


class FixedTraining(Tiny):
    def __init__(self) -> None:
        super().__init__()
        plain, self.bn = self.bn, Fixed(6)
        self.bn.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "taken"])
@pytest.mark.parametrize("kind", [TrainingItself, TrainingParts, MonteCarlo, FixedTraining])
@pytest.mark.parametrize("name", ["source", "adabn", "tent"])
def test_a_network_stays_in_eval_whatever_its_forward_does(kind: type[Tiny], name: str, copied: bool) -> None:
    network = seeded(kind)
    trained = {key: value.clone() for key, value in network.bn.state_dict().items()}
    ours, theirs = AdaptiveModel(network, name, copy=copied), AdaptiveModel(seeded(Tiny), name)
    ours.warm_up(images(1))
    for seed in range(3):
        torch.testing.assert_close(ours(images(4, seed)), theirs(images(4, seed)), rtol=1e-5, atol=1e-5)
    for key in ("running_mean", "running_var"):
        assert torch.equal(network.bn.state_dict()[key], trained[key])


class Insisting(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        self.drop.training = True
        return super().forward(x)


def test_a_forward_that_insists_on_training_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"sets training = True \(drop\)"):
        AdaptiveModel(seeded(Insisting))(images(2))


def test_a_copy_that_is_none_is_refused_and_leaves_the_network_alone() -> None:
    class Same(Tiny):
        def __deepcopy__(self, memo: dict[int, Any]) -> Same:
            return self

    network = seeded(Same).train()
    with pytest.raises(UnsupportedModelError, match="copy=False"):
        AdaptiveModel(network)
    assert network.training
    AdaptiveModel(network, copy=False)(images(2))


class Recomputing(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = checkpoint(lambda y: F.relu(self.bn(self.conv(y))), x, use_reentrant=False)
        out: Tensor = self.head(maps.mean((2, 3)))
        return out


class RecomputingFirst(Tiny):
    """The older way, which takes part where its input has gradients."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        maps: Tensor = checkpoint(lambda y: y * 2, x, use_reentrant=True)
        out: Tensor = self.head(maps.mean((2, 3)))
        return out


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [Recomputing, RecomputingFirst])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_is_refused_in_words_where_activations_are_recomputed(kind: type[Tiny], name: str) -> None:
    model = AdaptiveModel(seeded(kind), name)
    with pytest.raises(UnsupportedModelError, match="activation checkpointing") as refused:
        model(images(3))
    assert "\n" not in str(refused.value)
    assert AdaptiveModel(seeded(kind), "adabn")(images(3)).isfinite().all()


class Mapped(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.func.vmap(lambda one: super(Mapped, self).forward(one[None])[0])(x)
        return out


def test_a_network_that_maps_over_its_images_is_refused_in_words() -> None:
    with pytest.raises(UnsupportedModelError, match="sees 1 rows for 2 images"):
        AdaptiveModel(seeded(Mapped), "adabn")(images(2))
