"""MLServer hosting the network of the comparison: run in MLServer's own environment by `python -m benchmarks.load`.

python -m benchmarks.load.peer_mlserver PORT '{"batch": 32, "timeout": 0.002, "workers": 0, "threads": 1}'
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import mlserver
from mlserver import types

from benchmarks.load.peer_network import PeerNetwork


class PeerRuntime(mlserver.MLModel):  # type: ignore[misc]
    """Answers Open Inference requests whose one input holds base64 texts."""

    async def load(self) -> bool:
        """Called at the start."""
        self.network = PeerNetwork(self.settings.parameters.extra["threads"])
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Class and probability of each image."""
        best, probability = self.network.best(self.network.predict(self.network.decode(payload.inputs[0].data.root)))
        outputs = [
            types.ResponseOutput(name="index", shape=[len(best)], datatype="INT64", data=best),
            types.ResponseOutput(name="probability", shape=[len(best)], datatype="FP32", data=probability),
        ]
        return types.InferenceResponse(model_name=self.name, outputs=outputs)


def main(port: str, options: str) -> None:
    """Serve until stopped."""
    asyncio.run(_serve(int(port), json.loads(options)))


async def _serve(port: int, params: dict[str, Any]) -> None:
    settings = mlserver.Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port,
        grpc_port=_free_port(),
        metrics_endpoint=None,
        parallel_workers=params["workers"],
    )
    batching = {"max_batch_size": params["batch"], "max_batch_time": params["timeout"]} if params["batch"] > 1 else {}
    model = mlserver.ModelSettings(
        name="network",
        # By name, because workers import it anew.
        implementation="benchmarks.load.peer_mlserver.PeerRuntime",
        parameters=mlserver.settings.ModelParameters(extra={"threads": params["threads"]}),
        **batching,
    )
    await mlserver.MLServer(settings).start([model])


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
