"""`renorm config`: what is set, where it was set, and what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.configuration import configuration
from app.settings import Settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def shown(*arguments: str) -> dict[str, dict[str, Any]]:
    """What `renorm config --json` says."""
    result = run("config", *arguments, "--json")
    assert result.exit_code == 0, result.output
    said: dict[str, dict[str, Any]] = json.loads(result.stdout)
    return said


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("renorm: ")
    assert result.stdout == ""
    return result.stderr


def written(folder: Path, text: str) -> str:
    (folder / "r.toml").write_text(text)
    return str(folder / "r.toml")


def test_options_win_over_variables_over_the_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, 'strategy = "bn"\nport = 1\nmax_images = 2\nmean = [0.1, 0.2, 0.3]\n')
    monkeypatch.setenv("RENORM_PORT", "3")
    monkeypatch.setenv("Renorm_Strategy", "source")
    said = shown("--config", file, "--port", "4", "--insecure")
    assert said["port"] == {"value": 4, "source": "--port"}
    assert said["strategy"] == {"value": "source", "source": "Renorm_Strategy"}
    assert said["max_images"] == {"value": 2, "source": f"{file}: max_images"}
    assert said["mean"] == {"value": [0.1, 0.2, 0.3], "source": f"{file}: mean"}
    assert said["insecure"] == {"value": True, "source": "--insecure"}
    assert said["host"] == {"value": "127.0.0.1", "source": "default"}
    assert list(said) == list(Settings.model_fields)


def test_the_variable_names_the_file_and_the_option_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_CONFIG", written(tmp_path, "port = 1"))
    assert shown()["port"]["value"] == 1
    (tmp_path / "other.toml").write_text("port = 2")
    assert shown("--config", str(tmp_path / "other.toml"))["port"]["value"] == 2


def test_paths_in_a_file_are_beside_it(tmp_path: Path) -> None:
    file = written(tmp_path, 'weights = "net.pt"\nlabels = "/abs/labels.txt"\nmodel = "python:a:b"\n')
    said = shown("--config", file, "--keys", "keys.toml")
    assert said["weights"]["value"] == str(tmp_path / "net.pt")
    assert said["labels"]["value"] == "/abs/labels.txt"
    assert said["keys"]["value"] == "keys.toml"
    assert said["model"]["value"] == "python:a:b"


def test_in_a_table_each_setting_is_one_line() -> None:
    lines = [
        line.split() for line in run("config", "--port", "9", "--cors-origins", "http://a,http://b").stdout.splitlines()
    ]
    assert ["port", "9", "--port"] in lines
    assert ["cors_origins", "http://a,", "http://b", "--cors-origins"] in lines
    assert ["traces", "false", "default"] in lines
    assert ["weights", "default"] in lines


@pytest.mark.parametrize("form", [[], ["--json"], ["--toml"]])
def test_secrets_are_never_shown(tmp_path: Path, form: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, 'admin_key = "a-long-secret"')
    assert "a-long" not in run("config", "--config", file, *form).output
    monkeypatch.setenv("RENORM_ADMIN_KEY", "a-long-secret")
    assert "a-long" not in run("config", *form).output
    assert "a-long" not in run("config", "--admin-key", "a-long-secret", *form).output
    assert "(secret)" in run("config").output


def test_the_file_it_prints_means_the_same(tmp_path: Path) -> None:
    options = ["--mean", "0.1,0.25,1e-5", "--cors-origins", "https://a.example,https://b.example", "--compile"]
    options += ["--port", "0", "--timeout", "2.5", "--labels", "l.txt", "--model", 'python:"\\\x7fé\n😀']
    printed = run("config", *options, "--toml").stdout
    file = tmp_path / "printed.toml"
    file.write_text(printed)
    expected = {name: one["value"] for name, one in shown(*options).items()}
    expected["labels"] = str(Path("l.txt").absolute())
    found = shown("--config", str(file))
    assert {name: one["value"] for name, one in found.items()} == expected
    given = [name for name, one in found.items() if one["source"] != "default"]
    assert len(given) == len(options) // 2 + 1, "what is default stays default"
    for field in Settings.model_fields.values():
        assert f"# {field.description}\n" in printed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", ": 'prot' is not a setting: did you mean port?"),
        ("max-images = 1", ": 'max-images' is not a setting: did you mean max_images?"),
        ("prot = 1\nhots = 'x'", "; 'hots' is not a setting: did you mean host?"),
        ("[server]\nport = 1", ": 'server' is not a setting"),
        ("zzz = 1", "`renorm config` lists them all"),
        ("port = ", "is not valid TOML"),
        ("port = 'http'", ": port must be a valid integer, not 'http'"),
        ("port = 70000", ": port must be less than or equal to 65535, not '70000'"),
        ("port = {a = 1}", ": port must be a valid integer"),
        ("port = true", ": port cannot be true"),
        ("model = 5", ": model must be a valid string, not '5'"),
        ("mean = [1.0, 2.0]", ": mean must be three numbers, such as 0.5,0.5,0.5, or one"),
        ("weights = 5", ": weights is not valid"),
        ("admin_key = 'short'", ": admin_key must have at least 8 characters\n"),
    ],
)
@pytest.mark.parametrize("command", ["config", "serve"])
def test_invalid_settings_file_is_one_line(tmp_path: Path, command: str, text: str, said: str) -> None:
    file = written(tmp_path, text)
    message = refused(command, "--config", file)
    assert said in message
    assert file in message
    assert len(message.splitlines()) == 1
    assert "short" not in message


@pytest.mark.parametrize("command", ["config", "serve"])
def test_all_mistakes_are_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    file = written(
        tmp_path, "prot = 1\nhots = 'x'\nthreads = true\ncompile = 'perhaps'\nmean = [1.0, 2.0]\ntimeout = -1"
    )
    monkeypatch.setenv("RENORM_SIZE", "large")
    monkeypatch.setenv("RENORM_ZZZ", "1")
    lines = refused(command, "--config", file, "--port", "70000").splitlines()
    said = ("'prot'", "threads cannot be true", "RENORM_ZZZ", "compile must be", "mean must", "timeout must")
    for mistake in (*said, "RENORM_SIZE must be", "--port must be"):
        assert len([line for line in lines if mistake in line]) == 1, mistake
    assert len(lines) == 8
    assert all(line.startswith("renorm: ") for line in lines)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("python:nets.py:build", "python:FOLDER/nets.py:build"),
        ("python:shop/nets.py:build", "python:FOLDER/shop/nets.py:build"),
        ("python:/abs/nets.py:build", "python:/abs/nets.py:build"),
        ("python:~/nets.py:build", "python:~/nets.py:build"),
        ("python:shop.nets:build", "python:shop.nets:build"),
        ("timm:resnet50", "timm:resnet50"),
    ],
)
def test_a_network_by_file_is_beside_the_file_that_names_it(tmp_path: Path, model: str, found: str) -> None:
    file = written(tmp_path, f'model = "{model}"')
    assert shown("--config", file)["model"]["value"] == found.replace("FOLDER", str(tmp_path))
    assert shown("--model", model)["model"]["value"] == model


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    assert "No such file" in refused("config", "--config", str(tmp_path / "none.toml"))
    assert "cannot be read" in refused("config", "--config", str(tmp_path))
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    assert "not valid TOML" in refused("config", "--config", str(tmp_path / "b.toml"))


@pytest.mark.parametrize("command", ["config", "serve"])
def test_a_variable_that_nothing_reads_is_refused(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("RENORM_PROT", "9000")
    monkeypatch.setenv("RENORM_ZZZ", "the value")
    lines = refused(command).splitlines()
    assert lines[0] == "renorm: RENORM_PROT is not a setting: did you mean RENORM_PORT?"
    assert lines[1].startswith("renorm: RENORM_ZZZ is not a setting")
    assert "the value" not in lines[1]


def test_variables_of_other_parts_and_of_kubernetes_may_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE_DIR", "KEY", "URL", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT_8000_TCP", "PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(f"RENORM_{name}", "x")
    assert shown()["port"]["source"] == "default"
    monkeypatch.setenv("RENORM_PORT", "tcp://10.0.0.1:8000")
    assert "enableServiceLinks" in refused("config")


def test_every_variable_that_the_code_reads_is_known() -> None:
    """Whoever adds one should add it to ``NOT_SETTINGS`` too, or the server refuses to start beside it."""
    import re

    from app.configuration import NOT_SETTINGS

    root = Path(__file__).parents[3]
    sources = [file for top in ("app", "adapters") for file in (root / top).rglob("*.py")]
    named = {name for file in sources for name in re.findall(r"\bRENORM_[A-Z_]*[A-Z]\b", file.read_text())}
    assert "RENORM_CACHE_DIR" in named
    assert named - {f"RENORM_{name.upper()}" for name in Settings.model_fields} <= NOT_SETTINGS


def test_a_configuration_without_anything_is_the_defaults() -> None:
    found = configuration({"port": None, "other": 1})
    assert found.values == {}
    assert found.settings() == Settings()
