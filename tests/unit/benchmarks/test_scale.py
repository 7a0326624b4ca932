from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.plot import Curve, svg
from benchmarks.scale import GUESTS_EACH, measure


def test_a_size_is_measured() -> None:
    found = measure(10)
    assert found.size == 10
    assert found.snapshot_bytes > 10 * GUESTS_EACH
    assert found.voter_bytes > found.member_bytes > 0


def test_curves_become_a_drawing_with_all_their_points() -> None:
    curve = Curve("time & more", "ms", [(10.0, 0.5), (100.0, 7.0)], [(10.0, 1.0), (100.0, 20.0)])
    drawn = ElementTree.fromstring(svg([curve, curve]))
    circles = [one for one in drawn.iter() if one.tag.endswith("circle")]
    assert len(circles) == 4
    assert any(one.text == "time & more" for one in drawn.iter())
