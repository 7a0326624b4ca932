"""What modules read on the control machine before they go to a host."""

from __future__ import annotations

from types import SimpleNamespace

from sappers.provisioner.modules import copy


def test_a_content_keeps_the_mode_of_a_file_that_is_the_users_alone() -> None:
    control = SimpleNamespace(blob=len)
    args = {"content": "a\n", "mode": "preserve"}
    assert copy.prepare(args, control) == {"_blob": 2, "mode": "0600"}
    assert copy.prepare({**args, "mode": "0644"}, control)["mode"] == "0644"
