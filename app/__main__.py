"""The command line as a module: `python -m app` is `renorm`."""

from app.cli import main

if __name__ == "__main__":
    main()
