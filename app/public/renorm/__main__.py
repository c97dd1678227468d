"""The command line: `renorm`, and `python -m renorm`."""

from __future__ import annotations

import sys

from renorm import ROOT, _hidden


def main() -> None:
    """Run the command line, wherever it is started: a folder ``app`` of the user's is not taken for the server."""
    if _hidden():
        sys.path.insert(0, str(ROOT))
    from app.cli import main as command

    command()


if __name__ == "__main__":
    main()
