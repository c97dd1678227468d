"""The client is light: a program that only sends images loads nothing of the server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import app.client

ROOT = Path(__file__).parent.parent.parent.parent


def output_of(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return process.stdout


def test_importing_the_client_loads_nothing_of_the_server() -> None:
    loaded = json.loads(output_of("import app.client, json, sys\nprint(json.dumps(list(sys.modules)))"))
    packages = {name.partition(".")[0] for name in loaded}
    # httpx itself loads rich where it is installed.
    assert not packages & {"torch", "numpy", "PIL", "fastapi", "starlette", "uvicorn", "adapters", "typer"}
    own_modules = {name for name in loaded if name.startswith("app.") and not name.startswith("app.client")}
    assert own_modules == {"app.explanation_schema", "app.schemas"}


def test_without_httpx_one_line_says_what_to_install() -> None:
    code = """
import sys
sys.modules["httpx"] = None
try:
    import app.client
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    assert output_of(code) == "httpx the client needs httpx, which is not installed: pip install httpx\n"


def test_public_names_are_sorted_and_described() -> None:
    assert app.client.__all__ == sorted(app.client.__all__)
    for name in app.client.__all__:
        thing = getattr(app.client, name)
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}("), "that is what dataclass writes where nobody did"
