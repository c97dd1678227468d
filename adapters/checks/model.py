"""Checks of strategies inside a network: the invariants of `AdaptiveModel`, on a small one.

These take adapters, and also adapters with learners and correctors, as `adapters.strategy` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter, Site, Statistics
from adapters.checks.requirements import close, equal, require
from adapters.composite import Strategy
from adapters.engine.moments import Affine, measure, normalize
from adapters.engine.request import Answer, Request
from adapters.model import AdaptiveModel
from adapters.normalization.robust_bn import RobustBN
from adapters.normalization.source import Source
from adapters.sites import Sites
from adapters.state.memory import Memory, StateKey, join

OVERFLOWS = 1e6
"""The small network gives NaN for an image with a pixel above this, as deep networks do when activations overflow."""
OTHER = RobustBN(momentum=0.3125)
"""A strategy of other requests in the same forward, with hyperparameters that no check uses."""
BREAKS = 7
"""The small network raises for images of this width, after its first BatchNorm."""


class SmallNet(nn.Module):
    """Convolution, BatchNorm2d, pooling and a head with BatchNorm1d; statistics and affine as if trained."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv, self.bn = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.hidden, self.bn1d, self.head = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)
            for layer in (self.bn, self.bn1d):
                tensors = layer.state_dict()
                for name in ("weight", "running_var"):
                    tensors[name].uniform_(0.5, 1.5)
                for name in ("bias", "running_mean"):
                    tensors[name].normal_(0.0, 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, 4]`` of images ``[n, 3, h, w]``; see OVERFLOWS and BREAKS."""
        out = torch.relu(self.bn(self.conv(images)))
        if images.shape[-1] == BREAKS:
            raise RuntimeError(f"the small network cannot take images of width {BREAKS}")
        out = out.where(images.amax((1, 2, 3), keepdim=True) <= OVERFLOWS, torch.nan)
        logits: Tensor = self.head(torch.relu(self.bn1d(self.hidden(out.mean((2, 3))))))
        return logits


def images(n: int, seed: int, size: int = 8) -> Tensor:
    """Return shifted images ``[n, 3, size, size]``, the same at every call."""
    return 0.5 + 1.5 * torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def history(strategy: Strategy, stream: str = "a", seed: int = 0) -> list[Request]:
    """Return three requests of one stream, of different n, one of them a single image."""
    return [Request(images(n, seed + n), stream, strategy) for n in (3, 1, 2)]


def run_separately(model: AdaptiveModel, requests: Sequence[Request]) -> tuple[list[Answer], dict[StateKey, Memory]]:
    """Run each request in its own forward, in order, from new streams: the reference for batched requests."""
    answers: list[Answer] = []
    memories: dict[StateKey, Memory] = {}
    for request in requests:
        outcome = model.run([request], memories)
        answers += outcome.answers
        memories.update(outcome.memories)
        memories.update(model.learn(outcome.lessons, memories))
    return answers, memories


def state_tensors(memory: Memory) -> list[Tensor]:
    """Return all tensors of a stream's memory."""
    return [memory.row, *(field for part in memory.parts for field in part)]


def check_one_request_one_step(strategy: Strategy) -> None:
    """A forward of requests of mixed stream, strategy and size has the answers and states of a forward for each."""
    first, second = history(strategy), history(strategy, "b", seed=10)
    requests = [first[0], second[0], Request(images(2, 20), "a", OTHER), first[1], second[1]]
    requests += [Request(images(1, 21), "a", Source()), Request(images(2, 22), "a", strategy, update=False), first[2]]
    model = AdaptiveModel(SmallNet(), strategy)
    batched = model.predict(requests)
    answers, memories = run_separately(model, requests)
    for actual, expected in zip(batched, answers, strict=True):
        require(
            close(actual.logits, expected.logits),
            "batched with others a request got another answer than in its own forward",
        )
        require(
            (actual.step, actual.updated) == (expected.step, expected.updated),
            "batched requests counted other steps than separate ones",
        )
    batched_memories = model.memories()
    is_equal = batched_memories.keys() == memories.keys() and all(
        close(tensor, expected)
        for key, memory in batched_memories.items()
        for tensor, expected in zip(state_tensors(memory), state_tensors(memories[key]), strict=True)
    )
    require(is_equal, "batched requests left another state than separate ones")


class ByStep(nn.Module):
    """A replacement of BatchNorm that normalizes one request by ``adapter.step``, from ``state`` to ``after``."""

    def __init__(self, site: Site, adapter: AnyAdapter) -> None:
        super().__init__()
        self.site, self.adapter = site, adapter
        self.state = self.new_state = adapter.init(site)

    def forward(self, x: Tensor) -> Tensor:
        """The request ``x`` ``[n, C, ...]``, normalized."""
        statistics, self.new_state = self.adapter.step(self.site, self.state, measure(x).of(slice(None)))
        rows = Statistics(statistics.mean.expand(x.shape[:2]), statistics.var.expand(x.shape[:2]))
        return normalize(x, rows, Affine(self.site.weight, self.site.bias, self.site.eps))


def check_engine(adapter: AnyAdapter) -> None:
    """Requests batched in one forward have the answers and states of single calls of ``step``."""
    # Not two or three images: the variance of so few values at BatchNorm1d magnifies every rounding.
    sizes = ((5, "a", True), (5, "b", True), (4, "a", False), (1, "a", True), (1, "b", True), (4, "a", True))
    requests = [Request(images(n, 70 + k), name, adapter, update) for k, (n, name, update) in enumerate(sizes)]
    network, model = SmallNet().eval(), AdaptiveModel(SmallNet(), adapter)
    layers = [ByStep(site, adapter) for site in Sites(network)]
    network.bn, network.bn1d = layers  # type: ignore[assignment]
    states: dict[Any, list[Any]] = {}
    message = "otherwise than step one by one: fix weights or batched, or leave them out"
    for request, answer in zip(requests, model.predict(requests), strict=True):
        old_states = states.get(request.stream) or [adapter.init(layer.site) for layer in layers]
        for layer, state in zip(layers, old_states, strict=True):
            layer.state = state
        with torch.no_grad():
            expected = network(request.images)
        require(close(answer.logits, expected), f"the engine answered {message}")
        states[request.stream] = [layer.new_state for layer in layers] if request.update else old_states
    for entry in model.state_dict()["streams"]:
        expected = join(states[entry["stream"]])
        row = entry["row"][len(entry["row"]) - len(expected) :]  # behind the evidence
        require(close(row, expected), f"the engine remembers {message}")


def check_isolation(strategy: Strategy) -> None:
    """Requests of other streams and strategies in between change no bit of a stream."""
    requests = history(strategy)
    model = AdaptiveModel(SmallNet(), strategy)
    expected, memories = run_separately(model, requests)
    foreign = [Request(5 * images(4, 30 + k), "a" if k % 2 else "b", a) for k, a in enumerate((strategy, OTHER))]
    interleaved = [request for turn in requests for request in (*foreign, turn)]
    answers, new_memories = run_separately(model, interleaved)
    require(equal((a.logits for a in answers[2::3]), (a.logits for a in expected)), "other streams changed an answer")
    key = StateKey("a", strategy)
    require(
        equal(state_tensors(new_memories[key]), state_tensors(memories[key])),
        "other streams changed the state of a stream",
    )


def check_commit(strategy: Strategy) -> None:
    """A request that fails or is not finite leaves every state as it was; its neighbours are served and committed."""
    model = AdaptiveModel(SmallNet(), strategy)
    model.predict(history(strategy))
    old_rows = _rows(model)
    try:
        model.predict([Request(images(2, 40, size=BREAKS), "a", strategy)])
    except RuntimeError:
        require(equal(_rows(model), old_rows), "a forward that raised left another state: write nothing in step")
    else:
        raise AssertionError("an exception of the network must reach the caller")
    invalid = Request(images(2, 41).index_fill(3, torch.tensor([0]), 2 * OVERFLOWS), "a", strategy)
    answer = model.predict([invalid])[0]
    require(not (answer.finite or answer.updated), "logits that are NaN must be reported as not finite, not updated")
    require(equal(_rows(model), old_rows), "a request that was not finite changed the state")
    valid = [Request(images(2, 42), "a", strategy), Request(images(1, 43), "b", strategy)]
    later = Request(images(3, 44), "a", strategy)
    batched = model.predict([valid[0], invalid, valid[1], later])
    model.reset()
    expected = model.predict([*history(strategy), *valid, later])[3:]
    is_equal = all(close(a.logits, b.logits) for a, b in zip((batched[0], *batched[2:]), expected, strict=True))
    require(is_equal, "a request that was not finite changed the answers of its neighbours")


def check_update_false(strategy: Strategy) -> None:
    """With ``update=False`` the answer is the same and the state stays, bit by bit."""
    model = AdaptiveModel(SmallNet(), strategy)
    model.predict(history(strategy))
    old_rows = _rows(model)
    answer = model.predict([Request(images(2, 50), "a", strategy, update=False)])[0]
    require(equal(_rows(model), old_rows) and not answer.updated, "update=False changed the state")
    updating = model.predict([Request(images(2, 50), "a", strategy)])[0]
    require(equal([answer.logits], [updating.logits]), "update=False gave another answer than update=True")


def check_reset(strategy: Strategy) -> None:
    """A stream that was reset, or that never existed, answers like a new one, bit by bit."""
    model = AdaptiveModel(SmallNet(), strategy)
    first = [answer.logits for answer in map(_single(model), history(strategy))]
    for name in ("a", None):
        model.reset(name)
        repeated = [answer.logits for answer in map(_single(model), history(strategy))]
        require(equal(first, repeated), "after a reset the same requests got other answers: keep nothing but the state")
    new_stream = [answer.logits for answer in map(_single(model), history(strategy, "never seen"))]
    require(equal(first, new_stream), "a stream that was never seen must answer as a reset one does")


def check_edge_inputs(strategy: Strategy) -> None:
    """One image, a constant image, a 1x1 map, and image sizes in turn are answered with finite numbers."""
    model = AdaptiveModel(SmallNet(), strategy)
    batches = {
        "one image": images(1, 60),
        "a constant image": torch.full((1, 3, 8, 8), 0.5),
        "constant images": torch.zeros(4, 3, 8, 8),
        "an image of 1 px": images(1, 61, size=1),
        "images of 1 px": images(3, 62, size=1),
        "a second image size": images(2, 63, size=5),
        "the first image size again": images(2, 64),
    }
    for description, batch in batches.items():
        answer = model.predict([Request(batch, "a", strategy)])[0]
        require(answer.finite and answer.updated, f"{description} must get a finite answer and leave a finite state")


CHECKS: dict[str, Callable[[Strategy], None]] = {
    "one_request_one_step": check_one_request_one_step,
    "isolation": check_isolation,
    "commit": check_commit,
    "update_false": check_update_false,
    "reset": check_reset,
    "edge_inputs": check_edge_inputs,
}
"""The checks of this module by name; `adapters.checks.CHECKS` holds all."""


def _rows(model: AdaptiveModel) -> list[Tensor]:
    """Return copies of all states, because the next commit may overwrite the originals."""
    return [field.clone() for memory in model.memories().values() for field in state_tensors(memory)]


def _single(model: AdaptiveModel) -> Callable[[Request], Answer]:
    return lambda request: model.predict([request])[0]
