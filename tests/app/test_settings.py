"""Settings from arguments, the environment and defaults."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.settings import Settings


@pytest.mark.parametrize("text", ["0.1,0.2,0.3", " [0.1, 0.2, 0.3]", "(0.1, 0.2, 0.3)"])
def test_a_triple_is_written_alike_in_variables_and_arguments(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RENORM_MEAN", text.strip())
    assert Settings().mean == (0.1, 0.2, 0.3)
    assert Settings.model_validate({"std": text.strip()}).std == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("text", ["0.1,0.2", "a,b,c", "", "0.1,0.2,0.3,0.4"])
def test_other_triples_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RENORM_STD", text)
    with pytest.raises(ValidationError):
        Settings()


def test_arguments_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_PORT", "9001")
    monkeypatch.setenv("RENORM_STRATEGY", "bn")
    settings = Settings(strategy="source")
    assert (settings.port, settings.strategy, settings.max_images) == (9001, "source", 128)


def test_settings_are_frozen_and_take_no_unknown_argument() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="colour"):
        Settings.model_validate({"colour": "red"})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.1.7", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_loopback_means_this_machine_only(host: str, loopback: bool) -> None:
    assert Settings(host=host).loopback is loopback


def test_the_admin_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_ADMIN_KEY", "a-long-secret")
    assert "a-long-secret" not in repr(Settings())
    with pytest.raises(ValidationError):
        Settings.model_validate({"admin_key": "short"})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3"])
def test_a_device_is_written_as_torch_writes_it(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "mps", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(ValidationError, match="auto, cpu, cuda or cuda:NUMBER"):
        Settings(device=device)


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        ("https://lab.example", ("https://lab.example",)),
        (" https://lab.example/ , http://127.0.0.1:3000,", ("https://lab.example", "http://127.0.0.1:3000")),
        (["http://[::1]:80"], ("http://[::1]:80",)),
    ],
)
def test_origins_are_listed_with_commas(given: str | list[str], origins: tuple[str, ...]) -> None:
    assert Settings.model_validate({"cors_origins": given}).cors_origins == origins


@pytest.mark.parametrize("given", ["*", "lab.example", "https://lab.example/page", "https://*.example", "null", [5], 5])
def test_invalid_origin_is_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="origins such as https"):
        Settings.model_validate({"cors_origins": given})


def test_origins_are_read_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_CORS_ORIGINS", "http://a,http://b")
    assert Settings().cors_origins == ("http://a", "http://b")


@pytest.mark.parametrize("name", ["scanner", "shop.nets.build", "v2", "A_b-c.9", "a" * 100])
def test_a_models_name_is_one_part_of_a_path(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RENORM_NAME", name)
    assert Settings().name == name


@pytest.mark.parametrize("name", ["", "a/b", "a b", "..", ".x", "-x", "ü", "a%2fb", "a?b", "a:b", "a" * 101, "a\n"])
def test_name_that_a_path_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        Settings(name=name)
