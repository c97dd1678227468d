"""Tables as Markdown."""

from __future__ import annotations

from benchmarks.common import markdown


def test_markdown_keeps_every_cell() -> None:
    table = [["error %", "a|b"], ["fog", 'x "1", y']]
    assert markdown(table) == '| error % | a\\|b |\n| --- | ---: |\n| fog | x "1", y |\n'
