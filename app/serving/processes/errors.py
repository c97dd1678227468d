"""Errors that travel between processes."""

from __future__ import annotations

import logging

import adapters.errors
import app.errors

log = logging.getLogger("renorm")


def portable(error: Exception) -> Exception:
    """Return an error that another process can read: as the nearest class of ours, because plugins may live only here.

    Others are logged here, with their traceback, and become a `RuntimeError`.
    """
    for kind in type(error).__mro__:
        if kind.__module__ in (app.errors.__name__, adapters.errors.__name__):
            return error if kind is type(error) else kind(str(error))
    log.error("a request failed in the engine", exc_info=error)
    return RuntimeError(f"{type(error).__name__}: {error}")
