"""Files to answers, a few in each request: one that cannot be read is named, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.client import Answer, Client

Report = Callable[[Path, str], None]
"""Told of each file that cannot be predicted, and why."""

STOPPING = {401, 403, 404, 405, 409, 429}
"""Statuses that say nothing about a file: every other one would be refused alike."""


def answer_files(
    client: Client, groups: Sequence[Sequence[Path]], options: Mapping[str, Any], report: Report
) -> Iterator[tuple[list[Path], Answer | None, int]]:
    """The files of each group that were answered, the answer (None where there is none), and how many the group had.

    A group with a file that cannot be read is sent again without it: a request that is refused has moved no state.

    Raises:
        RenormClientError: what would befall every file alike, such as a server that is not there.
    """
    for group in groups:
        files = list(group)
        answer = None
        while files and answer is None:
            try:
                answer = client.predict(files, **options)
            except Exception as error:
                bad = _bad_file(error, files)
                if bad is None:
                    raise
                files.remove(bad)
                report(bad, _reason(error))
        yield files, answer, len(group)


def _bad_file(error: Exception, files: Sequence[Path]) -> Path | None:
    """The file that an error is about, None where it is about none."""
    from app.client import Refused

    if isinstance(error, Refused):
        if error.status in STOPPING or error.status >= 500:
            return None
        name = error.source
    elif isinstance(error, OSError) and error.filename is not None:
        name = str(error.filename)
    else:
        return None
    return next((file for file in files if str(file) == name), None)


def _reason(error: Exception) -> str:
    from app.client import Refused

    if isinstance(error, Refused):
        return f"{error.message} ({error.status} {error.code})"
    return str(error.strerror) if isinstance(error, OSError) else str(error)
