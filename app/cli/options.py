"""The options of commands: one for every field of the settings, described by the settings themselves.

They default to None, which means "not given": then the environment, the file of --config and the defaults of
`Settings` apply.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from app.settings import Settings

_MODEL, _SERVER, _LIMITS = "What to host", "Server", "Limits"

Command = Callable[..., None]


class _Row(NamedTuple):
    type: Any
    panel: str
    metavar: str | None


_OPTIONS: dict[str, _Row] = {
    "model": _Row(str, _MODEL, "NAME"),
    "weights": _Row(Path, _MODEL, "FILE"),
    "weights_key": _Row(str, _MODEL, "KEY"),
    "name": _Row(str, _MODEL, "NAME"),
    "labels": _Row(Path, _MODEL, "FILE"),
    "mean": _Row(str, _MODEL, "R,G,B"),
    "std": _Row(str, _MODEL, "R,G,B"),
    "size": _Row(str, _MODEL, "PIXELS"),
    "input_range": _Row(str, _MODEL, "check|off"),
    "device": _Row(str, _MODEL, "DEVICE"),
    "dtype": _Row(str, _MODEL, "TYPE"),
    "compile": _Row(bool, _MODEL, ""),
    "strategy": _Row(str, _MODEL, "NAME"),
    "temperatures": _Row(Path, _MODEL, "FILE"),
    "baseline": _Row(Path, _MODEL, "FILE"),
    "host": _Row(str, _SERVER, "ADDRESS"),
    "port": _Row(int, _SERVER, "NUMBER"),
    "admin_key": _Row(str, _SERVER, "KEY"),
    "keys": _Row(Path, _SERVER, "FILE"),
    "insecure": _Row(bool, _SERVER, ""),
    "allowed_hosts": _Row(str, _SERVER, "NAME,..."),
    "cors_origins": _Row(str, _SERVER, "URL,..."),
    "grpc_port": _Row(int, _SERVER, "NUMBER"),
    "threads": _Row(str, _SERVER, "NUMBER"),
    "drain_seconds": _Row(float, _SERVER, "SECONDS"),
    "access_log": _Row(bool, _SERVER, ""),
    "log_format": _Row(str, _SERVER, "FORMAT"),
    "metrics_streams": _Row(int, _SERVER, "NUMBER"),
    "traces": _Row(bool, _SERVER, ""),
    "max_images": _Row(int, _LIMITS, "NUMBER"),
    "max_image_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_image_pixels": _Row(int, _LIMITS, "PIXELS"),
    "max_decode_seconds": _Row(float, _LIMITS, "SECONDS"),
    "max_body_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_memory_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_lesson_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_decompressed_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_head_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_head_lines": _Row(int, _LIMITS, "NUMBER"),
    "head_seconds": _Row(float, _LIMITS, "SECONDS"),
    "body_seconds": _Row(float, _LIMITS, "SECONDS"),
    "keep_alive_seconds": _Row(float, _LIMITS, "SECONDS"),
    "max_connections": _Row(int, _LIMITS, "NUMBER"),
    "max_connections_per_address": _Row(int, _LIMITS, "NUMBER"),
    "max_bodies": _Row(int, _LIMITS, "NUMBER"),
    "max_forward_images": _Row(int, _LIMITS, "NUMBER"),
    "max_forward_seconds": _Row(float, _LIMITS, "SECONDS"),
    "max_waiting_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_waiting": _Row(int, _LIMITS, "NUMBER"),
    "max_waiting_per_stream": _Row(int, _LIMITS, "NUMBER"),
    "max_state_bytes": _Row(int, _LIMITS, "BYTES"),
    "max_streams": _Row(int, _LIMITS, "NUMBER"),
    "timeout": _Row(float, _LIMITS, "SECONDS"),
}

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings; the variable RENORM_CONFIG names it too.", metavar="FILE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, as the server answers it.")]


def with_settings(*fields: str) -> Callable[[Command], Command]:
    """Give a command the options of those fields of the settings, or of all; it takes them as ``**options``."""

    def add(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        kept = [one.replace(kind=one.KEYWORD_ONLY) for one in own if one.kind is not one.VAR_KEYWORD]
        taken = [_parameter(field) for field in fields or _OPTIONS]
        command.__signature__ = inspect.Signature([*taken, *kept])  # type: ignore[attr-defined]
        return command

    return add


def _parameter(field: str) -> inspect.Parameter:
    kind, panel, metavar = _OPTIONS[field]
    described = Settings.model_fields[field]
    text = described.description or ""
    option = typer.Option(
        f"--{field.replace('_', '-')}",
        help=text[:1].upper() + text[1:] + ".",
        show_default=False if described.default is None else str(described.default),
        metavar=metavar,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
