"""What the comparison of provisioners makes of what it measured."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.bar_chart import Chart, svg
from benchmarks.figures import figure
from benchmarks.host_states import differences
from benchmarks.provisioning_tools import payload
from sappers.provisioner.playbook.language.load import load_playbook

PLAY = Path("benchmarks/reference_play")


def test_hosts_that_differ_are_told_with_the_path():
    wanted = {"a": {"/etc/x": "100644 root root 1", "/etc/y": "1"}, "b": {"/etc/x": "2"}}
    assert differences(wanted, wanted) == []
    found = {"a": {"/etc/x": "100600 root root 1"}, "b": {"/etc/x": "2", "/etc/z": "3"}}
    assert differences(wanted, found) == [
        "a: /etc/x: 100600 root root 1, not 100644 root root 1",
        "a: /etc/y: missing, not 1",
        "b: /etc/z: 3, not missing",
    ]


def test_the_reference_play_has_13_tasks_for_either_tool():
    (play,) = load_playbook(PLAY / "site.yml")
    tasks = [task for section in play.sections for task in section]
    assert len(tasks) == 13
    # Folders are one call in a loop over four of them.
    calls = re.findall(r"^ *(?:files|server|systemd)\.", (PLAY / "deploy.py").read_text(), re.M)
    assert len(calls) == 13 - 4 + 1


def test_the_payload_is_always_the_same_270_kb():
    assert len(payload()) == 270_000
    assert payload() == payload()


def test_longer_bars_are_larger_figures_on_one_axis():
    first = Chart("first < run", [figure("slow", 36.0, "s"), figure("quick", 0.9, "s")])
    drawn = ElementTree.fromstring(svg([first, Chart("second", [figure("quick", 0.9, "s")])]))
    bars = [float(one.attrib["width"]) for one in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars[0] > bars[1] == bars[2]
