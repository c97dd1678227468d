"""Every field of the settings as a typed option, described by the settings themselves.

All options default to None, which means "not given": then the environment, the file of --config and the defaults of
`Settings` apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.settings import Settings

_MODEL, _SERVER, _LIMITS = "What to host", "Server", "Limits"


def _option(field: str, panel: str, metavar: str | None = None) -> Any:
    described = Settings.model_fields[field]
    text = described.description or ""
    return typer.Option(
        f"--{field.replace('_', '-')}",
        help=text[:1].upper() + text[1:] + ".",
        show_default=False if described.default is None else str(described.default),
        metavar=metavar,
        rich_help_panel=panel,
    )


ModelOption = Annotated[str | None, _option("model", _MODEL, "NAME")]
WeightsOption = Annotated[Path | None, _option("weights", _MODEL, "FILE")]
LabelsOption = Annotated[Path | None, _option("labels", _MODEL, "FILE")]
MeanOption = Annotated[str | None, _option("mean", _MODEL, "R,G,B")]
StdOption = Annotated[str | None, _option("std", _MODEL, "R,G,B")]
SizeOption = Annotated[int | None, _option("size", _MODEL, "PIXELS")]
DeviceOption = Annotated[str | None, _option("device", _MODEL, "DEVICE")]
DtypeOption = Annotated[str | None, _option("dtype", _MODEL, "TYPE")]
CompileOption = Annotated[bool | None, _option("compile", _MODEL, "")]
StrategyOption = Annotated[str | None, _option("strategy", _MODEL, "NAME")]

HostOption = Annotated[str | None, _option("host", _SERVER, "ADDRESS")]
PortOption = Annotated[int | None, _option("port", _SERVER, "NUMBER")]
AdminKeyOption = Annotated[str | None, _option("admin_key", _SERVER, "KEY")]
ThreadsOption = Annotated[int | None, _option("threads", _SERVER, "NUMBER")]
KeysOption = Annotated[Path | None, _option("keys", _SERVER, "FILE")]
InsecureOption = Annotated[bool | None, _option("insecure", _SERVER, "")]
CorsOriginsOption = Annotated[str | None, _option("cors_origins", _SERVER, "URL,...")]
GrpcPortOption = Annotated[int | None, _option("grpc_port", _SERVER, "NUMBER")]
DrainSecondsOption = Annotated[float | None, _option("drain_seconds", _SERVER, "SECONDS")]
LogFormatOption = Annotated[str | None, _option("log_format", _SERVER, "FORMAT")]
MetricsStreamsOption = Annotated[int | None, _option("metrics_streams", _SERVER, "NUMBER")]
TracesOption = Annotated[bool | None, _option("traces", _SERVER, "")]
AccessLogOption = Annotated[
    bool, typer.Option("--access-log", help="Log one line per HTTP request.", rich_help_panel=_SERVER)
]

MaxImagesOption = Annotated[int | None, _option("max_images", _LIMITS, "NUMBER")]
MaxImageBytesOption = Annotated[int | None, _option("max_image_bytes", _LIMITS, "BYTES")]
MaxImagePixelsOption = Annotated[int | None, _option("max_image_pixels", _LIMITS, "PIXELS")]
MaxBodyBytesOption = Annotated[int | None, _option("max_body_bytes", _LIMITS, "BYTES")]
MaxForwardImagesOption = Annotated[int | None, _option("max_forward_images", _LIMITS, "NUMBER")]
MaxWaitingBytesOption = Annotated[int | None, _option("max_waiting_bytes", _LIMITS, "BYTES")]
MaxStateBytesOption = Annotated[int | None, _option("max_state_bytes", _LIMITS, "BYTES")]
MaxStreamsOption = Annotated[int | None, _option("max_streams", _LIMITS, "NUMBER")]
MaxDecompressedBytesOption = Annotated[int | None, _option("max_decompressed_bytes", _LIMITS, "BYTES")]
MaxWaitingOption = Annotated[int | None, _option("max_waiting", _LIMITS, "NUMBER")]
MaxWaitingPerStreamOption = Annotated[int | None, _option("max_waiting_per_stream", _LIMITS, "NUMBER")]
TimeoutOption = Annotated[float | None, _option("timeout", _LIMITS, "SECONDS")]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings; the variable RENORM_CONFIG names it too.", metavar="FILE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, as the server answers it.")]
