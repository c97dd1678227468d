"""`renorm describe`: a model as it would be hosted, and the cost of adapting it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from app.cli import options as o
from app.cli.settings import settings_from
from app.cli.startup import check_strategy, open_own_engine
from app.cli.tables import show

if TYPE_CHECKING:
    from app.settings import Settings
    from app.types import ModelInfo

DESCRIBE_EXAMPLES = """\
Examples:

* `renorm describe`

* `renorm describe --model timm:efficientnet_b0`

* `renorm describe --json | jq .state_bytes`
"""


@o.with_settings(*o.NETWORK, "name", "device", "dtype", "strategy", "baseline")
def describe(config: o.ConfigOption = None, json: o.JsonOption = False, **options: Any) -> None:
    """Show a model as the server would host it: preprocessing, BatchNorm layers, state size per strategy."""
    settings = settings_from({**options, "config": config})
    check_strategy(settings.strategy)
    info = asyncio.run(_inspect(settings))
    if json:
        from app.schemas import ModelResponse

        typer.echo(ModelResponse.model_validate(info).model_dump_json(indent=2))
    else:
        _print(info)


async def _inspect(settings: Settings) -> ModelInfo:
    """Ask an engine, as the server does: some sites are found only while the network runs."""
    engine = await open_own_engine(settings)
    try:
        return engine.describe()
    finally:
        await engine.close()


def _print(info: ModelInfo) -> None:
    facts = {
        "model": info.name,
        "architecture": info.architecture,
        **({"weights": info.weights} if info.weights else {}),
        "parameters": f"{info.parameters:,}",
        "classes": f"{len(info.classes)}: {_first_few(info.classes)}",
        **{name: _value(value) for name, value in info.preprocessing.items()},
        "device": info.device,
        "dtype": info.dtype,
        "default strategy": info.default_strategy,
        "drift baseline": info.drift_baseline,
    }
    show("Model", ["", ""], [[name, value] for name, value in facts.items()])
    if info.notes:
        show("Notes", [""], [[note] for note in info.notes])
    sites = [[site.name, site.kind, f"{site.channels:,}"] for site in info.sites]
    show(f"BatchNorm sites: {len(sites)}, channels: {info.channels:,}", ["site", "kind", "channels"], sites, right=[2])
    states = [[name, f"{size:,}"] for name, size in info.state_bytes.items()]
    show("State of one stream", ["strategy", "bytes"], states, right=[1])


def _first_few(classes: list[str]) -> str:
    return ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")


def _value(value: object) -> str:
    return ", ".join(f"{number:g}" for number in value) if isinstance(value, tuple) else str(value)
