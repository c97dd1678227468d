"""Open the engine for a command, or end the program with one clear line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli.given import BAD_OPTION, CANNOT_RUN, fail
from app.cli.progress import progress

if TYPE_CHECKING:
    from app.engine import Engine
    from app.settings import Settings


def check_strategy(name: str) -> None:
    """Know the plugins' strategies too, and end the program if none is called ``name``."""
    from adapters import AdapterError, load_plugins, strategy

    try:
        load_plugins()
        strategy(name)
    except AdapterError as error:
        fail(str(error), status=BAD_OPTION)


async def open_engine(settings: Settings) -> Engine:
    """The engine, ready to answer; ends the program if the model cannot be hosted."""
    from adapters import AdapterError
    from app.engine import Engine
    from app.errors import ModelError

    try:
        with progress() as show:
            return await Engine.open(settings, show)
    except ModelError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        fail(f"{settings.model} cannot be hosted: {why}", status=CANNOT_RUN)
    except AdapterError as error:
        fail(f"{settings.model} cannot be hosted: {error}", status=CANNOT_RUN)
