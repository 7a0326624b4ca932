"""What a run ends with where failures were cleared, and when forced handlers come."""

from __future__ import annotations

from pathlib import Path

from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.run.engine import Engine
from sappers.provisioner.playbook.tasks.options import RunOptions
from tests.unit.provisioner.playbook.lines import Lines

HEAD = "- hosts: all\n  gather_facts: false\n"


def run(folder: Path, text: str, **options: bool) -> Lines:
    (folder / "hosts").write_text("h1 ansible_connection=local\nh2 ansible_connection=local\n")
    (folder / "play.yml").write_text(text)
    watcher = Lines()
    engine = Engine(load_inventory(folder / "hosts"), RunOptions(**options), watcher)
    watcher.report = engine.run(load_playbook(folder / "play.yml"))
    return watcher


def test_a_run_whose_failures_were_cleared_has_not_failed(tmp_path: Path) -> None:
    fails = "    - fail:\n      when: inventory_hostname == 'h1'\n"
    clears = "    - meta: clear_host_errors\n"
    done = run(tmp_path, f"{HEAD}  tasks:\n{fails}{clears}")
    assert done.report.counts["h1"].failed == 1
    assert not done.report.failed
    assert run(tmp_path, f"{HEAD}  tasks:\n{fails}{clears}{HEAD}  tasks:\n{fails}").report.failed


def test_forced_handlers_come_one_by_one_for_all_hosts(tmp_path: Path) -> None:
    text = f"""{HEAD}
  handlers:
    - name: one
      debug:
    - name: two
      debug:
  tasks:
    - command: "true"
      notify: [two, one]
    - fail:
      when: inventory_hostname == 'h1'
  post_tasks:
    - ping:
"""
    done = run(tmp_path, text, force_handlers=True)
    assert done.lines[-5:] == ["h1 one ok", "h2 one ok", "h1 two ok", "h2 two ok", "h2 ping ok"]
    assert done.report.failed
