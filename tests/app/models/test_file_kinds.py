"""Files that people take for weights are named as what they are, in one line, with the way out."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.errors import ModelError
from app.models.weights import load_weights


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def saved(legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(net().state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(net().eval()), buffer)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(net().eval(), (torch.zeros(1, 3, 2, 2),)), buffer)
    return buffer.getvalue()


def in_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pt"))
    return buffer.getvalue()


def in_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("w.pt", saved())
    return buffer.getvalue()


def arrays(several: bool) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2)) if several else np.save(buffer, np.ones(2))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

KINDS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty": (lambda: b"", "an empty file", "again"),
    "zeros": (lambda: bytes(4096), "nothing but zeros", "again"),
    "LFS pointer": (lambda: POINTER, "pointer of Git LFS", "git lfs pull"),
    "web page": (lambda: b"\n<!DOCTYPE html><html>" + b"<p>no" * 300, "web page", "address of the file"),
    "text": (lambda: "größe: 1\n".encode() * 100, "a text file", "--weights"),
    "index": (lambda: b'{"weight_map": {"a": "model-1.safetensors"}}', "index of weights", "one file"),
    "TorchScript": (scripted, "a TorchScript archive", "state_dict()"),
    "exported": (exported, "an exported program", "state_dict()"),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xff\x03" + bytes(99), "an ONNX model", "state_dict()"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5", "state_dict()"),
    "TFLite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite", "state_dict()"),
    "array": (lambda: arrays(False), "a NumPy array", "state_dict()"),
    "arrays": (lambda: arrays(True), "an archive of NumPy arrays", "state_dict()"),
    "gzip": (lambda: gzip.compress(saved(), mtime=0), "compressed with gzip", "unpack"),
    "tar": (in_tar, "a tar archive", "unpack"),
    "zip": (in_zip, "zip archive that torch.save did not write", "unpack"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture", "--weights"),
    "cut short": (lambda: saved()[:-200], "damaged or cut short", "again"),
    "cut after its first bytes": (lambda: saved()[:40], "damaged or cut short", "again"),
    "legacy cut short": (lambda: saved(legacy=True)[:-100], "damaged or cut short", "again"),
    "safetensors cut short": (lambda: b"\x40\0\0\0\0\0\0\0{" + b" " * 20, "damaged or cut short", "again"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "a pickle that torch.save did not write", "state_dict()"),
    "garbage": (lambda: bytes(range(255, 127, -1)) * 8, "in an unknown format", "state_dict()"),
}


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_files_are_named(tmp_path: Path, kind: str, name: str) -> None:
    make, told, way_out = KINDS[kind]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(ModelError) as caught:
        load_weights(net(), tmp_path / name)
    assert f"the weights {tmp_path / name} " in caught.value.message
    assert told in caught.value.message
    assert way_out in caught.value.hint
    for text in (caught.value.message, caught.value.hint):
        assert "\n" not in text
        assert "weights_only" not in text
        assert len(text) < 300


def test_a_folder_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(saved())
    with pytest.raises(ModelError, match="are a folder") as caught:
        load_weights(net(), tmp_path)
    assert "pytorch_model.bin" in caught.value.hint


@pytest.mark.parametrize("cut", range(1, 20))
@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_truncated_files_give_one_line(tmp_path: Path, legacy: bool, cut: int) -> None:
    whole = saved(legacy)
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) * cut // 20])
    with pytest.raises(ModelError) as caught:
        load_weights(net(), tmp_path / "w.pt")
    assert "damaged or cut short" in caught.value.message
