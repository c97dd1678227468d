"""The check of adapters that take their steps at all sites of a network at once."""

from __future__ import annotations

from typing import Any

import torch

from adapters.base import AnyAdapter, Moments, Site, Statistics
from adapters.checks.requirements import close, require
from adapters.errors import StateError
from adapters.evidence import Evidence, new_evidence
from adapters.joint import JointAdapter
from adapters.state.joint_layout import JointLayout, joint_layout
from adapters.state.memory import Layout, State, join

STREAMS, ROUNDS, PIXELS = 3, 3, 9


def check_joint(adapter: AnyAdapter) -> None:
    """The methods ``foresee`` and ``learn`` of a `JointAdapter` give the same for sites side by side as for each."""
    if not isinstance(adapter, JointAdapter) or not adapter.batched:
        return
    sites = _sites()
    layout = Layout([adapter.init(site) for site in sites], (), sites)
    try:
        joint = joint_layout(adapter, layout)
    except StateError as error:
        raise AssertionError(str(error)) from error
    if joint is None:
        return
    evidence = new_evidence().map(lambda field: field.expand(STREAMS, 1)) if adapter.reads_evidence else None
    states = layout.split(layout.row.repeat(STREAMS, 1))
    for turn in range(ROUNDS):
        states = _require_same_step(adapter, joint, sites, states, [_moments(s, turn, evidence) for s in sites])


def _require_same_step(
    adapter: JointAdapter[Any], joint: JointLayout, sites: list[Site], states: list[State], requests: list[Moments]
) -> list[State]:
    """Return the states after a step at each site, and require that it is the same for all at once."""
    rows, evidence, indices = join(states, leading=1), requests[0].evidence, joint.indices
    site_steps = [(sites[index], states[index], requests[index]) for index in indices]
    expected_statistics = [Statistics(*adapter.foresee(site, state, evidence)) for site, state, _ in site_steps]
    new_by_index = {index: adapter.learn(*parts) for index, parts in zip(indices, site_steps, strict=True)}
    values = [torch.cat([moments.mean[:, 0], moments.var[:, 0]], 1) for _, _, moments in site_steps]
    mean, var = joint.moments(values)[:, None].chunk(2, -1)
    try:
        statistics = adapter.foresee(joint.site, joint.gather(rows), evidence)
        new_rows = joint.scatter(rows, adapter.learn(joint.site, joint.gather(rows), Moments(mean, var, 2, evidence)))
    except Exception as error:
        raise AssertionError(
            f"foresee and learn must take a JointSite too, but raised {type(error).__name__}: {error}: read its mean, "
            "var, precision, spread and contrast_spread only, and use averages, expand, lerp and number of "
            "adapters.joint"
        ) from error
    hint = "average over the channels of each site with adapters.joint.averages"
    for part, parts in zip(statistics, zip(*expected_statistics, strict=True), strict=True):
        expected = torch.cat([tensor.expand(STREAMS, -1) for tensor in parts], -1)
        require(close(part.expand(STREAMS, -1), expected), f"foresee differs for sites side by side: {hint}")
    new_states = [new_by_index.get(index, state) for index, state in enumerate(states)]
    message = f"learn differs for sites side by side: {hint}, and do not read moments.pixels, nor with unbiased=True"
    require(close(new_rows, join(new_states, leading=1)), message)
    return new_states


def _sites() -> list[Site]:
    """Return sites of different widths, depths and levels."""
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randn(4, width, generator=generator) for width in (5, 2, 5, 1)]
    return [
        Site(
            f"bn{place}",
            mean,
            0.3 + spread.square(),
            weight,
            bias,
            1e-5,
            depth=place / len(drawn),
            spread=0.2,
            contrast_spread=0.1,
        )
        for place, (mean, spread, weight, bias) in enumerate(drawn)
    ]


def _moments(site: Site, turn: int, evidence: Evidence | None) -> Moments:
    """Return the moments of an image of each stream."""
    generator = torch.Generator().manual_seed(10 * turn + site.channels)
    mean = site.mean + (1.0 + turn) * torch.randn(STREAMS, 1, site.channels, generator=generator)
    return Moments(mean, 0.1 + torch.rand(STREAMS, 1, site.channels, generator=generator), PIXELS, evidence)
