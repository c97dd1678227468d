from __future__ import annotations

import json

import torch

from app.models.hosted import Hosted, Preprocessing
from app.observability.statistics import EngineCounters
from app.oip import metadata as oip_metadata
from app.settings import Settings
from app.types import Timing

HOSTED = Hosted(
    name="net",
    network=torch.nn.Identity(),
    classes=["a", "b", "c"],
    preprocessing=Preprocessing(8, 10, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    architecture="Identity",
    card="",
)


def test_metadata_and_configuration_agree() -> None:
    metadata, config = oip_metadata.model_metadata(HOSTED), oip_metadata.model_config(HOSTED, Settings(max_images=7))
    assert metadata["name"] == config["name"] == "net"
    assert metadata["versions"] == ["1"]
    assert config["max_batch_size"] == 7
    types = {"FP32": "TYPE_FP32", "BYTES": "TYPE_STRING", "INT64": "TYPE_INT64"}
    for ours, theirs in ((metadata["inputs"], config["input"]), (metadata["outputs"], config["output"])):
        assert [(one["name"], types[one["datatype"]], one["shape"]) for one in ours] == [
            (one["name"], one["data_type"], [-1, *one["dims"]]) for one in theirs
        ]
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]
    assert metadata["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert "sequence_batching" in config


def test_the_other_inputs_are_told_in_text() -> None:
    told = oip_metadata.model_metadata(HOSTED)["parameters"]
    assert [json.loads(text)["datatype"] for text in told.values()] == ["UINT8", "BYTES"]


def test_statistics() -> None:
    statistics = EngineCounters()
    statistics.record_forward(4, forward_s=0.002, commit_s=0.001, decode_ms=3)
    statistics.record_forward(1, forward_s=0.001, commit_s=0.001, decode_ms=1)
    statistics.record_answer(Timing(decode=3, queue=1, forward=2, total=7), commit_ms=1)
    statistics.record_failure(5)
    (said,) = oip_metadata.model_statistics(HOSTED, statistics)["model_stats"]
    assert (said["name"], said["version"]) == ("net", "1")
    assert (said["inference_count"], said["execution_count"]) == (5, 2)
    assert said["last_inference"] == statistics.last_inference_ms > 0
    stats = said["inference_stats"]
    assert stats["success"] == {"count": 1, "ns": 7_000_000}
    assert stats["fail"] == {"count": 1, "ns": 5_000_000}
    assert stats["queue"] == {"count": 1, "ns": 1_000_000}
    assert stats["compute_input"] == {"count": 1, "ns": 3_000_000}
    assert stats["compute_infer"] == {"count": 1, "ns": 2_000_000}
    assert stats["compute_output"] == {"count": 1, "ns": 1_000_000}
    assert stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}
    assert [batch["batch_size"] for batch in said["batch_stats"]] == [1, 4]
    assert said["batch_stats"][1]["compute_infer"] == {"count": 1, "ns": 2_000_000}


def test_the_index_has_the_hosted_model() -> None:
    assert oip_metadata.repository_index(HOSTED) == [{"name": "net", "version": "1", "state": "READY", "reason": ""}]
