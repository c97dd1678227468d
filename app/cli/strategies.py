"""`renorm strategies`: the strategies of requests, and their hyperparameters."""

from __future__ import annotations

import asyncio
import json as json_text
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import options as o
from app.cli.settings import settings_from
from app.cli.startup import check_strategy
from app.cli.tables import show

if TYPE_CHECKING:
    from app.schemas import CompositeResponse, StrategyResponse

STRATEGIES_EXAMPLES = """\
Examples:

* `renorm strategies`

* `renorm strategies unmix_tns`

* `renorm strategies unmix_tns+lame`

* `renorm strategies adabn --json | jq .parameters`
"""

KINDS = {
    "composite": "Strategies of several parts",
    "adapter": "Adapters: the statistics that images are normalized with",
    "learner": "Learners: train on the predictions of a stream, at most one",
    "corrector": "Correctors: refine the predictions, in the order of the name",
}


def strategies(
    name: Annotated[
        str | None, typer.Argument(help="Strategy or combination to show in full.", metavar="[NAME]")
    ] = None,
    json: o.JsonOption = False,
) -> None:
    """List the strategies, or describe one: formulas, paper, hyperparameters with their ranges."""
    from app.http.routes import info

    settings = settings_from({})
    check_strategy(settings.strategy)
    if name is not None:
        check_strategy(name)
        composite = asyncio.run(info.strategy(name, settings))
        _print_json(composite.model_dump()) if json else _explain(composite)
        return
    listed = asyncio.run(info.strategies(settings))
    if json:
        _print_json([strategy.model_dump() for strategy in listed])
        return
    for kind, title in KINDS.items():
        _list(title, [strategy for strategy in listed if strategy.kind == kind], goes_with=kind != "adapter")
    typer.echo("renorm strategies NAME describes one; combine names with +, as in unmix_tns+lame. * is the default.")


def _print_json(value: object) -> None:
    typer.echo(json_text.dumps(value, indent=2))


def _explain(composite: CompositeResponse) -> None:
    """Print each part in full, then all parameters by their names in `params`."""
    several = len(composite.parts) > 1
    typer.echo(
        f"{composite.name}\n"
        if not several
        else f"{composite.name}: {', then '.join(p.name for p in composite.parts)}\n"
    )
    for part in composite.parts:
        typer.echo(f"{part.name} ({part.kind})\n\n{part.documentation}\n" if several else f"{part.documentation}\n")
    show("Parameters", ["parameter", "default", "range", "description"], list(_parameters(composite.parameters)))


def _list(title: str, strategies: Sequence[StrategyResponse], *, goes_with: bool) -> None:
    columns = ["used with"] if goes_with else []
    rows = [_row(strategy, [strategy.adapter or ""] if goes_with else []) for strategy in strategies]
    show(title, ["strategy", *columns, "description", "parameters"], rows)


def _row(strategy: StrategyResponse, cells: Sequence[str]) -> list[str]:
    parameters = [f"{name}={default}" for name, default, _, _ in _parameters(strategy.parameters)]
    name = f"{strategy.name} *" if strategy.default else strategy.name
    return [name, *cells, strategy.description.replace("``", ""), "  ".join(parameters)]


def _parameters(schema: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield name, default, range and description of each hyperparameter in a JSON schema."""
    for name, rules in schema["properties"].items():
        default = json_text.dumps(rules["default"]) if "default" in rules else "(required)"
        yield [name, default, _range(rules), rules.get("description", "")]


def _range(rules: Mapping[str, Any]) -> str:
    if "enum" in rules:
        return " | ".join(rules["enum"])
    types = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
    words = (("exclusiveMinimum", ">"), ("minimum", ">="), ("maximum", "<="))
    bounds = [f"{sign} {rules[key]:.12g}" for key, sign in words if key in rules]
    null = " or null" if "null" in types else ""
    return f"{' '.join([types[0], ' and '.join(bounds)]).strip()}{null}"
