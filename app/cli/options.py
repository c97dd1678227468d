"""The options of commands: one for every field of the settings, with its description.

They default to None, which means "not set": then the environment, the file of --config and the defaults of
`Settings` apply.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from app.settings import Settings

_MODEL, _SERVER, _LIMITS = "Model", "Server", "Limits"

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
    "workers": _Row(str, _SERVER, "NUMBER"),
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

_DEFAULTS = {"False": "off", "True": "on", "()": "none"}
"""Words in the help for defaults that are not numbers or names."""

NETWORK = ("model", "weights", "weights_key", "labels", "mean", "std", "size")
"""The settings that say which network is hosted, and how images are prepared for it."""

HOSTING = (*NETWORK, "device", "dtype", "threads", "temperatures")
"""The settings of commands that run a model themselves."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file of settings; RENORM_CONFIG sets it too.", metavar="FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, as in the server's API.")]


def with_settings(*fields: str) -> Callable[[Command], Command]:
    """Add options for the given fields of the settings, or for all, to a command that takes ``**options``."""

    def add(command: Command) -> Command:
        parameters = inspect.signature(command, eval_str=True).parameters.values()
        explicit = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters if p.kind is not p.VAR_KEYWORD]
        settings = [_parameter(field) for field in fields or _OPTIONS]
        command.__signature__ = inspect.Signature([*settings, *explicit])  # type: ignore[attr-defined]
        return command

    return add


def _parameter(field: str) -> inspect.Parameter:
    kind, panel, metavar = _OPTIONS[field]
    description = Settings.model_fields[field]
    text, default = description.description or "", str(description.default)
    option = typer.Option(
        f"--{field.replace('_', '-')}",
        help=text[:1].upper() + text[1:] + ".",
        show_default=False if description.default is None else _DEFAULTS.get(default, default),
        metavar=metavar,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
