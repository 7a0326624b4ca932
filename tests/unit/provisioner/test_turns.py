"""One host at a time, unless one takes too long."""

from __future__ import annotations

import threading

from sappers.provisioner.bootstrap.turns import Turns


def test_who_has_no_patience_goes_on_beside():
    turns = Turns(0.01)
    waited: list[str] = []
    with turns.turn(lambda: waited.append("first")), turns.turn(lambda: waited.append("second")):
        assert waited == ["second"]
    with turns.turn(lambda: waited.append("third")):  # it was given back
        assert waited == ["second"]


def test_without_a_limit_one_comes_after_the_other():
    turns, order = Turns(None), []

    def other() -> None:
        with turns.turn(waiting.set):
            order.append("other")

    waiting = threading.Event()
    with turns.turn():
        thread = threading.Thread(target=other)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "other"]
