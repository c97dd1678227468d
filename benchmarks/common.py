"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A head and its rows, with numbers to the right in all columns but the first."""
    head, *body = table
    rule = ["---", *("---:" for _ in head[1:])]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (head, rule, *body))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)
