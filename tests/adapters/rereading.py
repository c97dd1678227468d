"""Networks that read what a BatchNorm reads, or may do so: nothing in them may be written over."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Base(nn.Module):
    """A convolution and the BatchNorm that reads it: proven, unless a subclass reads it again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.kept: Any = self.keeper()

    def keeper(self) -> Any:
        """Where a subclass keeps what it reads later."""
        return None

    def forward(self, x: Tensor) -> Any:
        return self.bn(self.conv(x))


class Shortcut(Base):
    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        return self.bn(h) + h


class ReadBefore(Base):
    """Read before, and used after: order does not matter to a graph."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        gate = h.mean((2, 3), keepdim=True)
        return self.bn(h) * gate


class Returned(Base):
    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        return self.bn(h), h


class View(Base):
    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        flat = h.flatten(1)
        return self.bn(h).flatten(1) + flat


class NormalizedView(Base):
    """What is normalized is a view of what is read again."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        return self.bn(h[:, :, 1:]) + h[:, :, 1:]


class TwiceOnOne(Base):
    """The layer is called on a fresh tensor, and on one that is read again."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        y = self.bn(h) + h
        return self.bn(self.conv(y[:, :3]))


class OfTheInput(Base):
    def forward(self, x: Tensor) -> Any:
        return self.bn(torch.relu(x)[:, [0, 1, 2, 0]]) + self.bn(self.conv(x))


class Stored(Base):
    def forward(self, x: Tensor) -> Any:
        self.kept = self.conv(x)
        return self.bn(self.kept)


class Keeping(Base):
    """Keeps the convolution's output through ``keep``."""

    def keep(self, h: Tensor) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        self.keep(h)
        return self.bn(h)


class Appended(Keeping):
    def keeper(self) -> Any:
        return []

    def keep(self, h: Tensor) -> None:
        self.kept.append(h)


class IntoDict(Keeping):
    def keeper(self) -> Any:
        return {"h": None}

    def keep(self, h: Tensor) -> None:
        self.kept["h"] = h


class IntoList(IntoDict):
    def keeper(self) -> Any:
        return [None]

    def keep(self, h: Tensor) -> None:
        self.kept[0] = h


class IntoNested(Appended):
    def keeper(self) -> Any:
        return {"features": []}

    def keep(self, h: Tensor) -> None:
        self.kept["features"].append(h)


class Shelf:
    """A plain object, as recorders of features are."""

    held: Any = None


class IntoObject(Keeping):
    def keeper(self) -> Any:
        return Shelf()

    def keep(self, h: Tensor) -> None:
        self.kept.held = h


OUTSIDE: list[Any] = []


class IntoGlobal(Keeping):
    def keep(self, h: Tensor) -> None:
        OUTSIDE.append(h)


class OnlyTensors(Base):
    """Reads again only what is a tensor: while it is traced, nothing is."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        y = self.bn(h)
        return y + h if isinstance(h, Tensor) else y


class Functional(Base):
    """Normalizes another activation with the same layer's statistics, and reads that again."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        y = F.batch_norm(h, self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias)
        return self.bn(self.conv((y + h)[:, :3]))


class DataDependent(Base):
    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        return self.bn(h) if h.mean() > 1e9 else self.bn(h) + h


class ShapeDependent(Base):
    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        return self.bn(h) if len(x) > 100 else self.bn(h) + h


class CountDependent(Base):
    """Reads again from its second call on."""

    def keeper(self) -> Any:
        return 0

    def forward(self, x: Tensor) -> Any:
        self.kept += 1
        h = self.conv(x)
        return self.bn(h) if self.kept == 1 else self.bn(h) + h


class GradDependent(Base):
    """Reads again only where no gradient is wanted, as in every forward of a served model."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        return self.bn(h) if torch.is_grad_enabled() else self.bn(h) + h


class Same(nn.Conv2d):
    """A convolution that may give back what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[1] == self.out_channels else super().forward(x)


class OwnConvolution(Base):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Same(3, 4, 1)


class OwnNorm(Base):
    """A subclass of BatchNorm reads its input as often as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = Skipping(4)


class Skipping(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


def patched(since: int) -> Callable[[], nn.Module]:
    """The convolution's ``forward`` is replaced by one that keeps its output, as profilers and caches do."""

    def build() -> nn.Module:
        network, kept, calls = Base(), {"h": torch.empty(0)}, itertools.count(1)
        plain = network.conv.forward

        def forward(x: Tensor) -> Tensor:
            made = plain(x)
            if next(calls) >= since:
                kept["h"] = made
            return made

        vars(network.conv)["forward"] = forward
        return network

    return build


def hooked(layer: str, before: bool, since: int) -> Callable[[], nn.Module]:
    """A hook that keeps the convolution's output from its call number ``since`` on, as one with a switch does."""

    def build() -> nn.Module:
        network, calls = Base(), itertools.count(1)

        def keep(_: nn.Module, given: tuple[Tensor, ...], *made: Tensor) -> None:
            if next(calls) >= since:
                OUTSIDE.append(given[0] if layer == "bn" else made[0])

        module = network.get_submodule(layer)
        (module.register_forward_pre_hook if before else module.register_forward_hook)(keep)
        return network

    return build


def one_layer_twice() -> nn.Module:
    norm = nn.BatchNorm2d(4)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Conv2d(4, 4, 1), nn.ReLU(), norm)


class SharedStatistics(Base):
    """A first layer shares the statistics of the last, and its input is read again."""

    def __init__(self) -> None:
        super().__init__()
        del self.bn
        self.first, self.mid, self.bn = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.first.running_mean, self.first.running_var = self.bn.running_mean, self.bn.running_var

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        y = self.first(h) + h
        return self.bn(self.mid(y))


CLASSES: list[Callable[[], nn.Module]] = [
    Shortcut, ReadBefore, Returned, View, NormalizedView, TwiceOnOne, OfTheInput, Stored, Appended, IntoDict, IntoList,
    IntoNested, IntoObject, IntoGlobal, OnlyTensors, Functional, DataDependent, ShapeDependent,
    CountDependent, GradDependent, OwnConvolution, OwnNorm, one_layer_twice, SharedStatistics,
]  # fmt: skip
READ_AGAIN = {cls.__name__: cls for cls in CLASSES}
for layer, before in (("conv", False), ("bn", True), ("bn", False)):
    READ_AGAIN |= {f"hook({layer}, {before}, {since})": hooked(layer, before, since) for since in (1, 2)}
READ_AGAIN |= {f"patched({since})": patched(since) for since in (1, 2)}
KEEPING = [
    name for name in READ_AGAIN if name.startswith(("Into", "hook", "patched")) or name in ("Stored", "Appended")
]
