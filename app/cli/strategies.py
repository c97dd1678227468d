"""`renorm strategies`: what a request may name, and the hyperparameters it takes."""

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
    "adapter": "Adapters: what images are normalized with",
    "learner": "Learners: what a stream learns from its answers, at most one",
    "corrector": "Correctors: what refines answers, in the order of their names",
}


def strategies(
    name: Annotated[
        str | None, typer.Argument(help="Show this one, or this combination, in full.", metavar="[NAME]")
    ] = None,
    json: o.JsonOption = False,
) -> None:
    """List the strategies, or explain one: formulas, paper, hyperparameters with their ranges."""
    from app.http.routes import info

    settings = settings_from({})
    check_strategy(settings.strategy)
    if name is not None:
        check_strategy(name)
        found = asyncio.run(info.strategy(name, settings))
        _print(found.model_dump()) if json else _explain(found)
        return
    listed = asyncio.run(info.strategies(settings))
    if json:
        _print([one.model_dump() for one in listed])
        return
    for kind, title in KINDS.items():
        _list(title, [one for one in listed if one.kind == kind], goes_with=kind != "adapter")
    typer.echo("renorm strategies NAME explains one; names can be joined, as in unmix_tns+lame. * is the default.")


def _print(what: object) -> None:
    typer.echo(json_text.dumps(what, indent=2))


def _explain(found: CompositeResponse) -> None:
    """Each part in full, then all parameters as `params` names them."""
    several = len(found.parts) > 1
    typer.echo(f"{found.name}\n" if not several else f"{found.name}: {', then '.join(p.name for p in found.parts)}\n")
    for part in found.parts:
        typer.echo(f"{part.name} ({part.kind})\n\n{part.documentation}\n" if several else f"{part.documentation}\n")
    show("Parameters", ["parameter", "default", "range", "meaning"], list(_parameters(found.parameters)))


def _list(title: str, found: Sequence[StrategyResponse], *, goes_with: bool) -> None:
    more = ["goes with"] if goes_with else []
    rows = [_row(one, [one.adapter or ""] if goes_with else []) for one in found]
    show(title, ["strategy", *more, "what it does", "parameters"], rows)


def _row(one: StrategyResponse, more: Sequence[str]) -> list[str]:
    parameters = [f"{name}={default}" for name, default, _, _ in _parameters(one.parameters)]
    name = f"{one.name} *" if one.default else one.name
    return [name, *more, one.description.replace("``", ""), "  ".join(parameters)]


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
