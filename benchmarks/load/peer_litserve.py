"""LitServe hosting the network of the comparison: run in LitServe's own environment by `python -m benchmarks.load`.

python -m benchmarks.load.peer_litserve PORT '{"batch": 32, "timeout": 0.002, "workers": 1, "zmq": false, "threads": 1}'
"""

from __future__ import annotations

import json
import sys
from typing import Any

import litserve
from torch import Tensor, cat, split

from benchmarks.load.peer_network import PeerNetwork


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Answers a form of files, or JSON with base64 texts; ``batch`` and ``unbatch`` glue requests together."""

    threads = 1

    def setup(self, _device: str) -> None:
        """Load the network, in each worker."""
        self.network = PeerNetwork(self.threads)

    # LitServe gives annotations of these two to FastAPI, which then validates against them: without, it is faster.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Pixels of one request."""
        if "images" in request:
            return self.network.decode(request["images"])
        return self.network.decode([file.file.read() for file in request.getlist("files")])

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """Probabilities as JSON, in the members that Renorm uses too."""
        pairs = zip(*self.network.best(output), strict=True)
        classes = self.network.classes
        return {"predictions": [{"label": classes[i], "index": i, "probability": p} for i, p in pairs]}

    def batch(self, inputs: list[Tensor]) -> tuple[Tensor, list[int]]:
        """Many requests as one batch, and how many images each has."""
        return cat(inputs), [len(pixels) for pixels in inputs]

    def predict(self, inputs: Any) -> Any:
        """Probabilities of one request's pixels, or of a batch."""
        if isinstance(inputs, Tensor):
            return self.network.predict(inputs)
        pixels, sizes = inputs
        return split(self.network.predict(pixels), sizes)

    def unbatch(self, output: Any) -> list[Tensor]:
        """Probabilities of each request."""
        return list(output)


def main(port: str, options: str) -> None:
    """Serve until stopped."""
    params = json.loads(options)
    batching = {"max_batch_size": params["batch"], "batch_timeout": params["timeout"]} if params["batch"] > 1 else {}
    api = Api(**batching)
    api.threads = params["threads"]
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=params["workers"], fast_queue=params["zmq"]
    )
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
