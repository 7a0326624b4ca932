"""msgspec (0.22) crashes where two threads use a type for the first time at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import msgspec
from sappers.model.known_types import learn, learn_all

sys.setswitchinterval(1e-6)
for number in range(300):
    inner = msgspec.defstruct("Inner", [(f"f{n}", "int | None", None) for n in range(20)])
    kind = msgspec.defstruct("Kind", [(f"f{n}", inner | None, None) for n in range(20)])
    barrier = threading.Barrier(4)
    learn_all()

    def use() -> None:
        barrier.wait()
        msgspec.json.decode(b'{"f3": {"f1": 2}}', type=learn(kind))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
"""


@pytest.mark.parametrize("way", ["learn(kind)", "learn_all()"])
def test_a_type_that_threads_use_at_once_is_learned_by_one(way: str) -> None:
    program = PROGRAM
    for other, instead in (("learn(kind)", "kind"), ("learn_all()", "pass")):
        if other != way:
            program = program.replace(other, instead)
    assert subprocess.run((sys.executable, "-c", program)).returncode == 0
    unlearned = program.replace("learn(kind)", "kind").replace("learn_all()", "pass")
    assert subprocess.run((sys.executable, "-c", unlearned)).returncode < 0, "then it is not needed"
