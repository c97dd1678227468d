"""What /openapi.json promises, tried by schemathesis on a running server: all checks, seeded, bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.test_command import url as running_server

url = running_server  # the fixture, for a server of this module's own
ROOT = Path(__file__).parent.parent.parent
EXAMPLES, SEED = 12, 1


def test_the_server_keeps_what_its_openapi_document_promises(url: str, tmp_path: Path) -> None:
    options = ["--checks", "all", "--max-examples", str(EXAMPLES), "--seed", str(SEED)]
    command = [
        str(Path(sys.executable).parent / "st"),
        "--config-file",
        str(ROOT / "tests" / "end_to_end" / "schemathesis.toml"),
    ]
    done = subprocess.run(
        [*command, "run", f"{url}/openapi.json", *options, "--generation-database", "none", "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Test cases" in done.stdout
