from __future__ import annotations

from pathlib import Path

from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.tasks.magic import inventory_magic


def test_a_host_knows_the_first_source_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.ini").write_text("a.example.com\n")
    (tmp_path / "b.ini").write_text("a.example.com\nb\n")
    sources = [tmp_path / "folder", tmp_path / "b.ini", "c,10.0.0.1"]
    inventory = load_inventory([str(one) for one in sources])
    told = {}
    for host in inventory.hosts:
        known = inventory_magic(inventory, host)
        names = ("inventory_hostname_short", "inventory_file", "inventory_dir")
        told[host.name] = [known[name] for name in names]
    assert told == {
        "a.example.com": ["a", f"{tmp_path}/folder/a.ini", f"{tmp_path}/folder"],
        "b": ["b", f"{tmp_path}/b.ini", str(tmp_path)],
        "c": ["c", "c,10.0.0.1", None],
        "10.0.0.1": ["10.0.0.1", "c,10.0.0.1", None],
    }
