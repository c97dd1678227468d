"""What a hosted model is, for people and for clients that prepare images."""

from __future__ import annotations

from dataclasses import asdict

from adapters import STRATEGIES, AdaptiveModel, name_of, strategy
from app.models.hosted import Hosted
from app.settings import Settings
from app.types import ModelInfo, SiteInfo


def describe_hosted(hosted: Hosted, model: AdaptiveModel, settings: Settings) -> ModelInfo:
    """What a hosted model is, and what adapting it costs."""
    sites = [SiteInfo(site.name, model.sites.kind(i), site.channels) for i, site in enumerate(model.sites)]
    return ModelInfo(
        name=hosted.name,
        architecture=hosted.architecture,
        parameters=hosted.parameters,
        classes=hosted.classes,
        preprocessing=asdict(hosted.preprocessing),
        sites=sites,
        channels=sum(site.channels for site in sites),
        state_bytes={name: model.state_bytes(strategy(name)) for name in STRATEGIES},
        device=str(model.device),
        dtype=settings.dtype,
        default_strategy=name_of(strategy(settings.strategy)),
        card=hosted.card,
        class_ids=list(hosted.class_ids),
        drift_baseline="measured" if settings.baseline or hosted.baseline else "assumed",
        weights=hosted.weights,
        notes=[*hosted.notes, *_notes(model)],
    )


def _notes(model: AdaptiveModel) -> list[str]:
    """What the first forward has shown of how far the network can be adapted."""
    notes = []
    if model.unreached:
        listed = ", ".join(model.unreached[:5]) + (", ..." if len(model.unreached) > 5 else "")
        notes.append(f"{len(model.unreached)} BatchNorm layers are not reached by its forward, nor adapted: {listed}")
    reach = model.reach
    if reach is not None and reach.missed:
        what = "no strategy that learns can move anything" if not reach.reached else f"{len(reach.missed)} cannot learn"
        notes.append(f"{what}: {reach.reason or ', '.join(reach.missed[:5])}")
    elif reach is not None and not reach.reached:
        notes.append(f"no strategy that learns can move anything: {reach.reason}")
    return notes
