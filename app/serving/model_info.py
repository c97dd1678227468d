"""The description of the hosted model, for people and for clients that prepare images."""

from __future__ import annotations

from dataclasses import asdict

from adapters import COMBINATIONS, STRATEGIES, AdaptiveModel, name_of, strategy
from app.models.hosted import Hosted
from app.settings import Settings
from app.types import ModelInfo, SiteInfo


def describe_hosted(hosted: Hosted, model: AdaptiveModel, settings: Settings) -> ModelInfo:
    """Describe a hosted model, and the size of its adapted states."""
    sites = [SiteInfo(site.name, model.sites.kind(i), site.channels) for i, site in enumerate(model.sites)]
    return ModelInfo(
        name=hosted.name,
        architecture=hosted.architecture,
        parameters=hosted.parameters,
        classes=hosted.classes,
        preprocessing=asdict(hosted.preprocessing),
        sites=sites,
        channels=sum(site.channels for site in sites),
        state_bytes={name: model.state_bytes(strategy(name)) for name in (*COMBINATIONS, *STRATEGIES)},
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
    """Return the limits on adapting the network that its first forward has revealed."""
    notes = []
    if model.unreached:
        listed = ", ".join(model.unreached[:5]) + (", ..." if len(model.unreached) > 5 else "")
        notes.append(
            f"{len(model.unreached)} BatchNorm layers are not used in the forward, so they are not adapted: {listed}"
        )
    reach = model.reach
    if reach is not None and reach.missed:
        count = len(reach.missed)
        effect = f"{count} layers cannot be trained" if reach.reached else "learners cannot train this model"
        notes.append(f"{effect}: {reach.reason or ', '.join(reach.missed[:5])}")
    elif reach is not None and not reach.reached:
        notes.append(f"learners cannot train this model: {reach.reason}")
    return notes
