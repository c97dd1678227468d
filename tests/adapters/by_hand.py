"""The learners' papers as slow, literal loops: modules in train and eval mode, autograd, optimizers of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.base import Site
from adapters.checks.learner import SmallNetwork


class Copy(nn.Module):
    """The small network of the checks out of ordinary layers, in double precision."""

    def __init__(self, network: SmallNetwork, norm: Callable[[Site], nn.Module]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(site) for site in network.sites)
        self.filters, self.head, self.bias = network.filters, network.head, network.bias
        self.trained = self._parameters_now()

    def forward(self, images: Tensor) -> Tensor:
        x = images.double()
        for filters, norm in zip(self.filters, self.norms, strict=True):
            x = norm(F.conv2d(x, filters, padding=1)).relu()
        return x.mean((2, 3)) @ self.head.mT + self.bias

    def _parameters_now(self) -> Tensor:
        weights: list[Any] = [norm.weight for norm in self.norms]
        biases: list[Any] = [norm.bias for norm in self.norms]
        return torch.cat([*weights, *biases]).detach().clone()

    def moved(self) -> Tensor:
        """How far weights, then biases, are from the trained ones."""
        return self._parameters_now() - self.trained

    def statistics(self) -> Tensor:
        """What is remembered, in the order of a row: mean, then variance, layer by layer."""
        parts: list[Any] = [part for norm in self.norms for part in (norm.mean, norm.var)]
        return torch.cat(parts)


def train_mode(site: Site) -> nn.Module:
    """A BatchNorm2d that normalizes by the batch."""
    layer = nn.BatchNorm2d(site.channels, eps=site.eps, dtype=torch.float64)
    layer.weight.data.copy_(site.weight)
    layer.bias.data.copy_(site.bias)
    return layer.train()


class Robust(nn.Module):
    """RoTTA's layer: in train mode the average moves first and then normalizes, in eval mode it normalizes."""

    def __init__(self, site: Site, pace: float = 0.05) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(site.weight.clone()), nn.Parameter(site.bias.clone())
        self.mean, self.var, self.eps, self.pace = site.mean.clone(), site.var.clone(), site.eps, pace

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.mean, self.var
        if self.training:
            mean = (1 - self.pace) * mean + self.pace * x.mean((0, 2, 3))
            var = (1 - self.pace) * var + self.pace * x.transpose(0, 1).flatten(1).var(1, unbiased=False)
            self.mean, self.var = mean.detach(), var.detach()
        shape = (1, -1, 1, 1)
        scaled = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + self.eps)
        return scaled * self.weight.view(shape) + self.bias.view(shape)


class ListBank:
    """RoTTA's memory as one list of [what, uncertainty, age] per class, in the order in which they came."""

    def __init__(self, capacity: int, classes: int, lambda_t: float = 1.0, lambda_u: float = 1.0) -> None:
        self.capacity, self.lambda_t, self.lambda_u = capacity, lambda_t, lambda_u
        self.held: list[list[list[Any]]] = [[] for _ in range(classes)]

    def score(self, age: int, uncertainty: float) -> float:
        classes = len(self.held)
        score = self.lambda_t / (1 + math.exp(-age / self.capacity))
        return score + (self.lambda_u * uncertainty / math.log(classes) if classes > 1 else 0.0)

    def offer(self, what: Any, label: int, uncertainty: float) -> None:
        if self._makes_room(label, uncertainty):
            self.held[label].append([what, uncertainty, 0])
        for items in self.held:
            for item in items:
                item[2] += 1

    def _makes_room(self, label: int, uncertainty: float) -> bool:
        sizes = [len(items) for items in self.held]
        candidates = [label]
        if sizes[label] < self.capacity / len(sizes):
            if sum(sizes) < self.capacity:
                return True
            candidates = [name for name, size in enumerate(sizes) if size == max(sizes)]
        worst: tuple[float, int, int] | None = None
        for name in candidates:
            for place, (_, unsure, age) in enumerate(self.held[name]):
                score = self.score(age, unsure)
                if worst is None or score >= worst[0]:
                    worst = (score, name, place)
        assert worst is not None
        if worst[0] > self.score(0, uncertainty):
            del self.held[worst[1]][worst[2]]
            return True
        return False


def rotta_update(
    student: Copy,
    teacher: Copy,
    optimizer: torch.optim.Optimizer,
    bank: ListBank,
    teacher_rate: float,
    augment: Callable[[Tensor], Tensor],
) -> None:
    """One look of student and teacher at the whole bank."""
    items = [item for held in bank.held for item in held]
    images = torch.stack([what for what, _, _ in items])
    student.train()
    teacher.train()
    with torch.no_grad():
        target = teacher(images).softmax(1)
    logs = torch.log_softmax(student(augment(images)), 1)
    loss = torch.zeros((), dtype=torch.float64)
    for i, (_, _, age) in enumerate(items):
        timely = math.exp(-age / bank.capacity) / (1 + math.exp(-age / bank.capacity))
        loss = loss - timely * (target[i] * logs[i]).sum() / len(items)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    pairs: Sequence[tuple[Any, Any]] = list(zip(teacher.parameters(), student.parameters(), strict=True))
    for slow, fast in pairs:
        slow.data = (1 - teacher_rate) * slow.data + teacher_rate * fast.data
