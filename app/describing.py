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
    )
