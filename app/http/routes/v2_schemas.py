"""Schemas of the Open Inference Protocol's responses, for the OpenAPI page. `app.oip` makes the responses."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.schemas import Wire

_INPUT = {"name": "input", "datatype": "FP32", "shape": [-1, 3, 32, 32]}
_OUTPUT = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}


class LiveResponse(Wire):
    """The server runs."""

    live: bool = Field(examples=[True])


class ServerReadyResponse(LiveResponse):
    """The server answers requests."""

    ready: bool = Field(examples=[True])


class ModelReadyResponse(Wire):
    """The model answers requests."""

    name: str = Field(examples=["cifar10-resnet20"])
    ready: bool = Field(examples=[True])


class ServerMetadataResponse(Wire):
    """The server, and its extensions of the protocol."""

    name: str = Field(examples=["renorm"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[["binary_tensor_data", "sequence", "statistics"]])


class TensorMetadata(Wire):
    """An input or output; -1 is a dimension of any length."""

    name: str = Field(examples=["input"])
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[-1, 3, 32, 32]])


class ModelMetadataResponse(Wire):
    """The model's inputs and outputs."""

    name: str = Field(examples=["cifar10-resnet20"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["pytorch_renorm"])
    inputs: list[TensorMetadata] = Field(examples=[[_INPUT]])
    outputs: list[TensorMetadata] = Field(examples=[[_OUTPUT]])
    parameters: dict[str, str] = Field(
        description="inputs that may be sent in place of the listed one, in JSON",
        examples=[{"renorm_input_bytes": '{"name": "bytes", "datatype": "BYTES", "shape": [-1]}'}],
    )


class ModelConfigResponse(Wire):
    """The model's configuration, as Triton's ModelConfig has it."""

    name: str = Field(examples=["cifar10-resnet20"])
    platform: str = Field(examples=["pytorch_renorm"])
    backend: str = Field(examples=["renorm"])
    version_policy: dict[str, Any] = Field(examples=[{"latest": {"num_versions": 1}}])
    max_batch_size: int = Field(examples=[128], description="the most images in one request")
    input: list[dict[str, Any]] = Field(examples=[[{"name": "input", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}]])
    output: list[dict[str, Any]] = Field(examples=[[{"name": "label", "data_type": "TYPE_STRING", "dims": []}]])
    sequence_batching: dict[str, Any] = Field(examples=[{"direct": {}, "control_input": []}])
    model_transaction_policy: dict[str, bool] = Field(examples=[{"decoupled": False}])
    parameters: dict[str, dict[str, str]] = Field(examples=[{"renorm_input_bytes": {"string_value": "{}"}}])


class StatisticsResponse(Wire):
    """Statistics of the model since the server started; durations are in nanoseconds."""

    model_stats: list[dict[str, Any]] = Field(
        examples=[
            [
                {
                    "name": "cifar10-resnet20",
                    "version": "1",
                    "last_inference": 1767225600000,
                    "inference_count": 12,
                    "execution_count": 7,
                    "inference_stats": {"success": {"count": 9, "ns": 85000000}},
                }
            ]
        ]
    )


class IndexEntry(Wire):
    """One model of the repository."""

    name: str = Field(examples=["cifar10-resnet20"])
    version: str = Field(examples=["1"])
    state: str = Field(examples=["READY"])
    reason: str = Field(examples=[""])


class InferOutput(Wire):
    """One output; ``data`` is left out where it follows the JSON as bytes."""

    name: str = Field(examples=["probabilities"])
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[1, 2]])
    parameters: dict[str, Any] = Field({}, examples=[{}])
    data: list[float | int | str] = Field([], examples=[[0.93, 0.07]], description="flat, in row-major order")


class InferResponse(Wire):
    """The response to an inference request."""

    model_name: str = Field(examples=["cifar10-resnet20"])
    model_version: str = Field(examples=["1"])
    id: str = Field("", examples=["42"], description="the id of the request")
    parameters: dict[str, str | int | float | bool] = Field(
        examples=[
            {
                "renorm_stream": "camera-7",
                "renorm_strategy": "adabn",
                "renorm_step": 12,
                "renorm_updated": True,
                "renorm_state_origin": "live",
                "renorm_outliers": 0,
                "renorm_weight": 1.0,
                "renorm_entropy": 0.35,
                "renorm_drift": 0.41,
                "renorm_adaptation": 0.38,
            }
        ]
    )
    outputs: list[InferOutput]
