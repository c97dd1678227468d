from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from plot_errors import main, read

TABLE = (
    "error %,source,adabn\nfog,50.00,20.00\ngaussian_noise,70.00,40.00\nmean of 2,60.00,30.00\nagainst source,0,-30\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    path.write_text(TABLE + "clean,8.00,-\nimages/s,500,400\n")
    return path


def test_only_complete_rows_of_errors_are_read(table: Path) -> None:
    errors = read(table)
    assert errors.strategies == ["source", "adabn"]
    assert errors.corruptions == ["fog", "gaussian noise", "mean of 2"]
    assert errors.values == [[50.0, 70.0, 60.0], [20.0, 40.0, 30.0]]


def test_the_picture_shows_taller_bars_for_more_errors(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "errors.png"
    assert main([str(table), str(out)]) == 0
    with Image.open(out) as picture:
        pixels = list(picture.convert("RGB").get_flattened_data())
    grey, blue = pixels.count((0x9A, 0xA0, 0xA6)), pixels.count((0x1A, 0x73, 0xE8))
    assert 1.7 < grey / blue < 2.3


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "error %,source\nclean,-\n"])
def test_other_files_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    assert main([str(path), str(tmp_path / "out.png")]) == 1
    assert "shifted_stream.py" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing.csv"), str(tmp_path / "out.png")]) == 1
    assert "nothing.csv" in capsys.readouterr().err
