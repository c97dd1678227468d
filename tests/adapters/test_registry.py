"""Names, plugins, and the errors of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from adapters import (
    STRATEGIES,
    AdaBN,
    Adapter,
    AdapterError,
    DuplicateStrategyError,
    ParameterError,
    PluginError,
    RobustBN,
    Source,
    UnknownStrategyError,
    load_plugins,
    name_of,
    register,
    registry,
    strategy,
    whole,
)


@dataclass(frozen=True)
class Plugin(RobustBN):
    """A strategy of another package."""


@dataclass(frozen=True)
class Other(RobustBN):
    """Another one."""


class Point:
    """What matters of an installed entry point."""

    def __init__(self, name: str, cls: type[Any]) -> None:
        self.name, self._cls = name, cls

    def load(self) -> type[Any]:
        return self._cls


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = dict(STRATEGIES)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


def _install(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    def entry_points(*, group: str) -> list[Point]:
        return list(points) if group == "renorm.adapters" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_the_strategies_of_this_release() -> None:
    assert list(STRATEGIES)[:6] == ["source", "bn", "alpha_bn", "adabn", "robust_bn", "unmix_tns"]
    for name, cls in STRATEGIES.items():
        assert cls in [type(part) for part in whole(strategy(name))]
        assert name_of(strategy(name)) == name


def test_hyperparameters_reach_the_strategy() -> None:
    assert strategy("adabn", {"momentum": 0.25, "cumulative": True}) == AdaBN(momentum=0.25, cumulative=True)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownStrategyError, match="unknown strategy 'ada': choose one of auto, source, bn, alpha_bn"):
        strategy("ada")


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ParameterError, match="strategy 'robust_bn' has no parameter 'alpha', 'beta': it takes momentum"
    ):
        strategy("robust_bn", {"beta": 1, "alpha": 1})
    with pytest.raises(ParameterError, match="strategy 'source' has no parameter 'momentum': it takes none"):
        strategy("source", {"momentum": 0.1})


def test_all_errors_are_one_tree() -> None:
    for error in (UnknownStrategyError, DuplicateStrategyError, ParameterError):
        assert issubclass(error, AdapterError)
    assert issubclass(AdapterError, ValueError)


def test_plugins_are_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, Point("plugin", Plugin))
    assert "plugin" not in STRATEGIES
    load_plugins()
    assert strategy("plugin", {"momentum": 0.5}) == Plugin(0.5)
    assert name_of(Plugin()) == "plugin"


def test_loading_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, Point("plugin", Plugin))
    load_plugins()
    once = dict(STRATEGIES)
    load_plugins()
    assert once == STRATEGIES


@pytest.mark.parametrize("name", ["plugin", "source"])
def test_a_second_class_of_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _install(monkeypatch, Point(name, Plugin), Point(name, Other))
    with pytest.raises(DuplicateStrategyError, match=f"strategy '{name}' is registered twice: .* and .*; rename one"):
        load_plugins()
    assert STRATEGIES["source"] is Source
    assert STRATEGIES.get("plugin", Plugin) is Plugin


def test_registering_by_hand() -> None:
    register("mine", Plugin)
    register("mine", Plugin)
    assert strategy("mine") == Plugin()
    with pytest.raises(DuplicateStrategyError, match="'mine'"):
        register("mine", Other)


def test_an_unregistered_strategy_has_the_name_of_its_class() -> None:
    assert name_of(Other()) == "Other"


class Broken(Point):
    """An entry point whose module is gone."""

    value = "gone.module:Gone"

    def load(self) -> type[Any]:
        raise ModuleNotFoundError("No module named 'gone'")


def test_a_plugin_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, Broken("gone", Plugin))
    with pytest.raises(PluginError, match=r"strategy 'gone' cannot be loaded from gone\.module:Gone: ModuleNotFound"):
        load_plugins()
    assert "gone" not in STRATEGIES


@dataclass(frozen=True)
class Required(RobustBN):
    """A hyperparameter without a default."""

    share: float = dataclasses.field(kw_only=True)


@dataclass
class Mutable(Adapter[Any]):
    """Not frozen, so without a hash."""

    init: Any = None
    step: Any = None


@dataclass(frozen=True)
class Listed(RobustBN):
    """Takes what is not a plain value, and checks nothing."""

    layers: Any = ()

    def __post_init__(self) -> None:
        """Nothing is checked."""


@pytest.mark.parametrize("cls", [Required, Mutable, int, object])
def test_a_class_that_is_no_part_is_refused_by_name(cls: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, Point("odd", cls))
    with pytest.raises(PluginError, match=r"strategy 'odd'.* frozen dataclass that subclasses Adapter or Learner"):
        load_plugins()
    assert "odd" not in STRATEGIES


def test_values_that_cannot_be_a_key_are_refused() -> None:
    register("listed", Listed)
    assert strategy("listed", {"layers": "a"}) == Listed(layers="a")
    with pytest.raises(ParameterError, match="'listed' cannot take these parameters: unhashable"):
        strategy("listed", {"layers": ["a"]})
