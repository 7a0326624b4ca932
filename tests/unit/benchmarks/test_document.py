"""Figures as people and documents see them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.document import write_block
from benchmarks.figures import Section, any_missed, at_least, at_most, bars, figure


def test_each_benchmark_writes_its_own_block_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    for name, seconds in (("one", 1), ("two", 2), ("one", 3)):
        section = Section(f"Title {name}", [figure("it takes", seconds, "s", 0)])
        write_block(path, name, f"Intro {name}.", ["a fact"], [section])
    text = path.read_text()
    assert text.startswith("# Benchmarks\n")
    assert text.count("Intro one.") == text.count("Intro two.") == 1
    assert text.index("Title one") < text.index("Title two")
    assert "| it takes | 3 s |" in text
    assert "| it takes | 1 s |" not in text


def test_an_aim_counts_at_its_very_limit() -> None:
    met = [at_most("slow", 1.25, 1.25, "times"), at_least("fast", 0.8, 0.8, "times")]
    assert not any_missed([Section("all", met)])
    assert any_missed([Section("all", [*met, at_most("slow", 1.26, 1.25, "times")])])


def test_the_longest_bar_is_the_largest_figure() -> None:
    one, two = bars([figure("a", 10, "s"), figure("longer", 40, "s")], width=8)
    assert one.count("█") * 4 == two.count("█") == 8
