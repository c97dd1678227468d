"""The table of a run: means, differences, formats; and strategies as the command line writes them."""

from __future__ import annotations

import pytest
from error_table import Choice, Score, Scores, comma_separated, markdown, parse_choice, rows

SCORES: Scores = {
    ("fog", "source"): Score(200, 100, 2.0),
    ("snow", "source"): Score(100, 30, 1.0),
    ("clean", "source"): Score(100, 9, 1.0),
    ("fog", "adabn"): Score(200, 50, 4.0),
    ("snow", "adabn"): Score(100, 20, 4.0),
    ("clean", "adabn"): Score(100, 10, 2.0),
}


def test_the_mean_weighs_corruptions_alike_and_leaves_clean_images_out() -> None:
    assert rows(["clean", "fog", "snow"], ["source", "adabn"], SCORES) == [
        ["error %", "source", "adabn"],
        ["fog", "50.00", "25.00"],
        ["snow", "30.00", "20.00"],
        ["mean of 2", "40.00", "22.50"],
        ["against source", "+0.00", "-17.50"],
        ["clean", "9.00", "10.00"],
        ["images/s", "100", "40"],
    ]


def test_what_is_missing_shows_as_a_dash() -> None:
    partial = {key: score for key, score in SCORES.items() if key != ("snow", "adabn")}
    table = {line[0]: line[1:] for line in rows(["fog", "snow"], ["source", "adabn", "bn"], partial)}
    assert table["snow"] == ["30.00", "-", "-"]
    assert table["mean of 2"] == ["40.00", "-", "-"]
    assert table["against source"] == ["+0.00", "-", "-"]
    assert table["images/s"][2] == "-"


def test_without_source_or_corruptions_there_is_nothing_to_compare() -> None:
    assert [line[0] for line in rows(["fog"], ["adabn"], SCORES)] == ["error %", "fog", "mean of 1", "images/s"]
    assert [line[0] for line in rows(["clean"], ["source"], SCORES)] == ["error %", "clean", "images/s"]


def test_markdown_and_csv_keep_every_cell() -> None:
    table = [["error %", "a|b"], ["fog", 'x "1", y']]
    assert markdown(table) == '| error % | a\\|b |\n| --- | ---: |\n| fog | x "1", y |\n'
    assert comma_separated(table) == 'error %,a|b\nfog,"x ""1"", y"\n'


@pytest.mark.parametrize(
    ("text", "choice", "label"),
    [
        ("adabn", Choice("adabn"), "adabn"),
        ('alpha_bn:{"prior": 16}', Choice("alpha_bn", {"prior": 16}), "alpha_bn prior=16"),
        ('unmix_tns={"start":"random","seed":1}', Choice("unmix_tns", {"start": "random", "seed": 1}), None),
        ("bn:{}", Choice("bn"), "bn"),
    ],
)
def test_strategies_are_read_with_their_parameters(text: str, choice: Choice, label: str | None) -> None:
    assert parse_choice(text) == choice
    assert parse_choice(text).label == (label or 'unmix_tns start="random" seed=1')


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "not a strategy"), ("a b", "not a strategy"), ("bn:{", "not JSON"), ("bn:[1]", "must be a JSON object")],
)
def test_strategies_that_cannot_be_read_say_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_choice(text)
