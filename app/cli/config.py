"""`renorm config`: the settings that a server would run with, and the source of each."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options as o
from app.cli.settings import configured
from app.cli.tables import show
from app.configuration import SECRETS, Configuration
from app.settings import Settings

CONFIG_EXAMPLES = """\
Examples:

* `renorm config`

* `renorm config --config renorm.toml --port 9000`

* `renorm config --toml > renorm.toml`

* `renorm config --json | jq .port`
"""

_SECRET = "(secret)"  # noqa: S105
_TomlOption = Annotated[bool, typer.Option("--toml", help="Print a TOML file for --config, with comments.")]


@o.with_settings()
def config(
    config: o.ConfigOption = None, json: o.JsonOption = False, toml: _TomlOption = False, **options: Any
) -> None:
    """Show every setting with its value and its source: an option, a variable, a key of a file, or the default."""
    settings, configuration = configured({**options, "config": config}, strict=True)
    values = {name: _public_value(name, getattr(settings, name)) for name in Settings.model_fields}
    if json:
        listed = {name: {"value": value, "source": configuration.source(name)} for name, value in values.items()}
        typer.echo(json_text.dumps(listed, indent=2))
    elif toml:
        typer.echo("\n".join(_toml_lines(settings, configuration)))
    else:
        rows = [[name, _text(value), configuration.source(name)] for name, value in values.items()]
        show("Settings", ["setting", "value", "source"], rows)


def _public_value(name: str, value: Any) -> Any:
    """Return a value that JSON can hold, with secrets masked."""
    if name in SECRETS and value is not None:
        return _SECRET
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str("" if value is None else value)


def _toml_lines(settings: Settings, configuration: Configuration) -> Iterator[str]:
    """Yield lines of TOML that reproduce the settings. Defaults are comments."""
    yield "# Settings of `renorm serve --config FILE`. Lines that begin with # show defaults."
    yield "# Relative paths are relative to the folder of this file."
    for name, field in Settings.model_fields.items():
        yield f"\n# {field.description}"
        value = getattr(settings, name)
        if name in SECRETS:
            yield f'# {name} = ""  # a secret, better kept in RENORM_{name.upper()}'
        elif value is None:
            yield f"# {name} ="
        else:
            yield f"{'' if configuration.source(name) != 'default' else '# '}{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # The escapes of JSON, plus DEL. A relative path would change its meaning next to another file.
    text = str(value.absolute() if isinstance(value, Path) else value)
    return json_text.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
