"""Log lines about limits that are hit: the first at once, then at most one for each kind in `QUIET_S`, with a count."""

from __future__ import annotations

import asyncio
import logging

from app.http.connections.refusals import Refusal

log = logging.getLogger("renorm")

QUIET_S = 10.0
"""Seconds between two lines of one kind: clients that hit limits on purpose must not fill the disk with logs."""


class Notices:
    """Counts of refusals by kind. Used by one event loop alone."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._counts: dict[str, int] = {}

    def report(self, refusal: Refusal, client: str) -> None:
        """Log the refusal of the client ``client``, now or, if a line of its kind was just logged, in a count."""
        if refusal.kind in self._counts:
            self._counts[refusal.kind] += 1
            return
        self._log(refusal, f"from {client}")
        self._counts[refusal.kind] = 0
        asyncio.get_running_loop().call_later(self._quiet_s, self._count, refusal)

    def _count(self, refusal: Refusal) -> None:
        count, self._counts[refusal.kind] = self._counts[refusal.kind], 0
        if count == 0:
            del self._counts[refusal.kind]
            return
        self._log(refusal, f"{count} more in the last {self._quiet_s:g} s")
        asyncio.get_running_loop().call_later(self._quiet_s, self._count, refusal)

    def _log(self, refusal: Refusal, details: str) -> None:
        bound = f" (bounded by {refusal.setting})" if refusal.setting else ""
        log.warning("refused %s%s: %s", refusal.kind, bound, details)
