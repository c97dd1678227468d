"""A recording: the answers to a fixed sequence of requests, as a JSON file."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

VOLATILE = {"age_s", "timing_ms", "model_stats", "inference_count", "execution_count", "last_inference"}
"""Members of answers that tell times: only their presence is recorded."""


class RecordedAnswer(NamedTuple):
    """One answer: ``exact`` must stay as it is, the texts in ``wording`` may be written anew."""

    exact: dict[str, Any]
    wording: list[str]

    @property
    def kind(self) -> str:
        """The kind of an entry: ``error`` for a refusal, whole or of a part, else ``prediction``."""
        is_error = self.wording or "close" in self.exact or self.exact.get("status", 200) >= 400
        return "error" if is_error else "prediction"


@dataclass(frozen=True)
class Entry:
    """One request with its answer; ``kind`` is prediction, error or description, ``digest`` identifies its content."""

    name: str
    kind: str
    exact: dict[str, Any]
    wording: list[str] = field(default_factory=list)
    digest: str = ""


@dataclass(frozen=True)
class Recording:
    """All entries of a run, and what ran: floats are kept as their shortest text, which is exact, tensors as hex."""

    environment: dict[str, str]
    entries: list[Entry]

    def save(self, path: Path) -> None:
        """Write the recording as JSON, one line per entry."""
        lines = ",\n".join(json.dumps(asdict(entry)) for entry in self.entries)
        path.write_text(f'{{"environment": {json.dumps(self.environment)}, "entries": [\n{lines}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a recording that `save` wrote."""
        document = json.loads(path.read_text())
        return cls(document["environment"], [Entry(**entry) for entry in document["entries"]])


def split(document: Any, *, prose: bool = False) -> tuple[Any, list[str]]:
    """Return the document without its messages and times, and its messages.

    Args:
        document: Decoded JSON.
        prose: Whether every string with a space in it is a message, as in descriptions of strategies.
    """
    wording: list[str] = []

    def strip(value: Any, key: str = "") -> Any:
        if key in VOLATILE:
            return sorted(value) if isinstance(value, dict) else "..."
        if isinstance(value, dict):
            return {name: strip(member, name) for name, member in value.items()}
        if isinstance(value, list):
            return [strip(member) for member in value]
        if isinstance(value, str) and (key == "error" or (prose and " " in value)):
            wording.append(value)
            return "(text)"
        return value

    return strip(document), wording


def environment(checkout: Path) -> dict[str, str]:
    """Describe the commit of a checkout, the packages and the machine."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    modified = bool(git("status", "--porcelain", "--untracked-files=no"))
    packages = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pillow")}
    commit = git("rev-parse", "--short", "HEAD") + " modified" * modified
    return {"commit": commit, "python": platform.python_version(), **packages, "machine": _processor()}


def _processor() -> str:
    """Return the processor's model, on which the last bits of a convolution depend."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
