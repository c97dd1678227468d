"""`renorm strategies`: what a request may name, and the hyperparameters it takes."""

from __future__ import annotations

import asyncio
import json as json_text
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import options as o
from app.cli.given import settings_from
from app.cli.opening import check_strategy
from app.cli.tables import show

if TYPE_CHECKING:
    from app.schemas import StrategyResponse

STRATEGIES_EXAMPLES = """\
Examples:

* `renorm strategies`

* `renorm strategies unmix_tns`

* `renorm strategies adabn --json | jq .parameters`
"""


def strategies(
    name: Annotated[str | None, typer.Argument(help="Show this one in full.", metavar="[NAME]")] = None,
    json: o.JsonOption = False,
) -> None:
    """List the strategies, or explain one: formulas, paper, hyperparameters with their ranges."""
    from app.routes import info

    settings = settings_from({})
    check_strategy(name or settings.strategy)
    found = [one for one in asyncio.run(info.strategies(settings)) if name in {None, one.name}]
    if json:
        listed = [one.model_dump() for one in found]
        typer.echo(json_text.dumps(listed[0] if name else listed, indent=2))
    elif name:
        typer.echo(f"{name}\n\n{found[0].documentation}\n")
        show("Parameters", ["parameter", "default", "range", "meaning"], list(_parameters(found[0].parameters)))
    else:
        show("Strategies", ["strategy", "what it does", "parameters"], [_row(one) for one in found])
        typer.echo("renorm strategies NAME explains one. * is the default.")


def _row(one: StrategyResponse) -> list[str]:
    parameters = [f"{name}={default}" for name, default, _, _ in _parameters(one.parameters)]
    return [f"{one.name} *" if one.default else one.name, one.description.replace("``", ""), "  ".join(parameters)]


def _parameters(schema: Mapping[str, Any]) -> Iterator[list[str]]:
    """Name, default, range and meaning of each hyperparameter that a JSON schema describes."""
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
