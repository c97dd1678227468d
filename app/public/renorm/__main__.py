"""The command line: `renorm`, and `python -m renorm`."""

from __future__ import annotations

import sys

from renorm import ROOT, _hidden_packages


def main() -> None:
    """Run the command line; a folder ``app`` in the current directory is not mistaken for the server."""
    if _hidden_packages():
        sys.path.insert(0, str(ROOT))
    from app.cli import main as command

    command()


if __name__ == "__main__":
    main()
