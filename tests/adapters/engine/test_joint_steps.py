"""All sites at once: the same as one site after another, whatever the network shows of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adapters import AdaptiveModel, JamesStein, Request, Shrinkage, strategy
from adapters.base import Moments, Statistics
from adapters.engine import joint_steps, plan
from adapters.engine.grouped_steps import GroupedSteps, group_requests
from adapters.engine.joint_steps import JointSteps, stream_steps
from adapters.engine.moments import BatchMoments
from adapters.joint import JointAdapter
from adapters.state.evidence import new_evidence_state
from adapters.state.memory import Layout
from tests.adapters.checks.test_joint import OwnHalf, Sound
from tests.adapters.engine.test_grouped_steps import MANY, near, show, site
from tests.nets import Dense, Head1d, Tiny, Twice, images, seeded

CPU = torch.device("cpu")
ADAPTERS: list[JointAdapter[Any]] = [
    Sound(),
    OwnHalf(),
    JamesStein(),
    Shrinkage(),
    Shrinkage(independent_images=8.0, horizon=3, prior_images=0, alarm=0.2),
]


def _layout(adapter: JointAdapter[Any], sites: list[Any]) -> Layout:
    head = new_evidence_state() if adapter.reads_evidence else ()
    return Layout([adapter.init(here) for here in sites], head, sites)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=repr)
@MANY
@given(
    st.integers(1, 4),
    st.lists(st.sampled_from([0, 1, 9]), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_all_sites_at_once_are_one_after_another(
    adapter: JointAdapter[Any], streams: int, pixels: list[int], late: bool, update: bool, seed: int
) -> None:
    """With sites that are not reached (0 pixels), that show one value, and ``late`` one met in this very forward."""
    spreads = [math.inf, 0.3, 0.02]  # of no, some and much of which images are drawn to their own statistics
    sites = [
        replace(
            site(f"{seed}{index}", 2 + (seed + index) % 3, index),
            spread=spreads[(seed + index) % 3],
            contrast_spread=0.1,
        )
        for index in range(len(pixels))
    ]
    known = sites[:-1] if late and len(sites) > 1 else sites
    layout = _layout(adapter, known)
    rows = layout.row + torch.rand(streams, len(layout), generator=torch.Generator().manual_seed(seed))
    groups = group_requests([(stream, 1, update) for stream in range(streams)], streams, CPU)
    joint, loop = stream_steps(adapter, layout, rows, groups), GroupedSteps(adapter, layout, rows.clone(), groups)
    assert isinstance(joint, JointSteps)
    before = rows.clone()
    for index, (here, positions) in enumerate(zip(sites, pixels, strict=True)):
        if not positions and here in known:
            continue
        shown: Moments = show(streams, here.channels, positions or 4, seed + index)
        values = BatchMoments(torch.cat([shown.mean, shown.var], 1), positions or 4)
        for found, expected in zip(joint.step(index, here, values), loop.step(index, here, values), strict=True):
            near(found.expand_as(shown.mean), expected.expand_as(shown.mean))
    assert torch.equal(rows, before)
    near(joint.rows(), loop.rows())


class SharedByAll(Sound):
    """Statistics without an axis for streams."""

    def foresee(self, site: Any, state: Any, evidence: Any) -> Statistics:
        return Statistics(site.mean, site.var)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("channels", [1, 4])
def test_statistics_that_all_streams_share_keep_their_axis_of_channels(streams: int, channels: int) -> None:
    adapter, here = SharedByAll(), site("bn", channels, 0)
    layout = _layout(adapter, [here])
    groups = group_requests([(stream, 1, True) for stream in range(streams)], streams, CPU)
    steps = stream_steps(adapter, layout, layout.row.expand(streams, -1).clone(), groups)
    assert isinstance(steps, JointSteps)
    shown: Moments = show(streams, channels, 9, 0)
    found = steps.step(0, here, BatchMoments(torch.cat([shown.mean, shown.var], 1), 9))
    assert torch.equal(found.mean, here.mean)
    assert torch.equal(found.var, here.var)


@pytest.mark.parametrize("network", [Tiny, Dense, Twice, Head1d])
@pytest.mark.parametrize("name", ["auto", "shrinkage", "james_stein"])
def test_streams_of_single_images_are_answered_as_site_by_site(
    network: type[nn.Module], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint, loop = (AdaptiveModel(seeded(network), strategy(name)) for _ in range(2))
    for k in range(12):
        scale, level = ((0.2, -3.0), (1.0, 0.0), (3.0, 3.0))[k % 3]  # a mixture of domains
        requests = [Request(scale * images(1, 7 * k + s) + level, str(s), update=k != 5) for s in range(1 + k % 3)]
        answers = joint.predict(requests)
        with monkeypatch.context() as patch:
            patch.setattr(plan, "stream_steps", GroupedSteps)
            expected = loop.predict(requests)
        for found, answer in zip(answers, expected, strict=True):
            torch.testing.assert_close(found.logits, answer.logits, rtol=1e-4, atol=1e-4)
    rows: dict[Any, Tensor] = {key: memory.row for key, memory in joint.memories().items()}
    for key, memory in loop.memories().items():
        torch.testing.assert_close(rows[key], memory.row, rtol=1e-4, atol=1e-4)


def test_streams_too_many_for_the_cache_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parted = (AdaptiveModel(seeded(Tiny), Shrinkage()) for _ in range(2))
    for k in range(3):
        requests = [Request(images(1, 9 * k + stream), str(stream)) for stream in range(5)]
        expected = whole.predict(requests)
        with monkeypatch.context() as patch:
            patch.setattr(joint_steps, "CHUNK_NUMBERS", 2 * len(parted._layout(parted.adapter)))
            found = parted.predict(requests)
        for ours, answer in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.logits, answer.logits, rtol=1e-5, atol=1e-6)


def test_an_adapter_that_adapts_no_site_steps_site_by_site() -> None:
    adapter, deep = JamesStein(), replace(site("a", 2, 0), depth=1.0)
    layout, groups = Layout([adapter.init(deep)], (), [deep]), group_requests([(0, 1, True)], 1, CPU)
    steps = stream_steps(adapter, layout, layout.row[None], groups)
    assert isinstance(steps, GroupedSteps)
    assert torch.equal(steps.step(0, deep, BatchMoments(torch.ones(1, 4), 9)).mean, deep.mean)


@dataclass(frozen=True)
class OneByOne(Sound):
    """Without a promise that its functions take leading axes."""

    batched = False


def test_an_adapter_without_leading_axes_steps_site_by_site() -> None:
    adapter, here = OneByOne(), site("a", 3, 0)
    layout = Layout([adapter.init(here)], (), [here])
    groups = group_requests([(0, 1, True), (1, 1, True)], 2, CPU)
    assert isinstance(stream_steps(adapter, layout, layout.row.repeat(2, 1), groups), GroupedSteps)
