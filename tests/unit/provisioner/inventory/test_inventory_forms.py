"""Inventories that are no INI: YAML, lists of names, stdin, JSON; and what is beside them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import InventoryError, PlaybookError
from sappers.provisioner.inventory.inventory import Inventory, load_inventory, parse_inventory
from sappers.provisioner.inventory.listing import list_inventory

YAML_TEXT = """\
all:
  hosts:
    loose:
  vars: {v: all}
  children:
    top:
      children:
        web:
          hosts:
            lab[1:2]:2222: {own: line}
          vars: {v: web, ansible_user: ada, flag: yes, mode: 0644}
        db:
          hosts:
            lab2:
"""
INI_TEXT = """\
loose
[all:vars]
v=all
[web]
lab[1:2]:2222 own=line
[web:vars]
v=web
ansible_user=ada
flag=True
mode=420
[db]
lab2
[top:children]
web
db
"""


def variables(inventory: Inventory, name: str) -> dict[str, object]:
    return dict(next(one for one in inventory.hosts if one.name == name).variables)


def test_yaml_means_what_ini_means(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(YAML_TEXT)
    (tmp_path / "hosts.ini").write_text(INI_TEXT)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/db.yml").write_text("v: db\n")
    ours = load_inventory(tmp_path / "hosts.yml")
    theirs = load_inventory(tmp_path / "hosts.ini")
    assert list_inventory(ours) == list_inventory(theirs)
    assert variables(ours, "lab2")["v"] == "db"  # files of groups are over what the inventory says
    assert variables(ours, "lab1") == {
        "v": "web", "own": "line", "ansible_user": "ada", "flag": True, "mode": 420,
        "ansible_port": 2222,
    }  # fmt: skip
    assert next(one for one in ours.hosts if one.name == "lab1").port == 2222


@pytest.mark.parametrize("text", [YAML_TEXT, INI_TEXT, "# comment\n\n---\n" + YAML_TEXT])
def test_what_has_no_name_is_told_by_its_first_line(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    for inventory in (load_inventory("-"), load_inventory(tmp_path / "hosts")):
        assert [host.name for host in inventory.hosts] == ["loose", "lab1", "lab2"]


def test_a_list_of_names() -> None:
    inventory = load_inventory("b, a[1:2]:2222,10.0.0.1,")
    assert [host.name for host in inventory.hosts] == ["b", "a1", "a2", "10.0.0.1"]
    assert [host.port for host in inventory.hosts] == [None, 2222, 2222, None]
    assert inventory.groups["ungrouped"].hosts == ("b", "a1", "a2", "10.0.0.1")
    with pytest.raises(InventoryError, match="range"):
        load_inventory("a[1,b")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("- h\n", "1:1", "mapping of groups"),
        ("all:\n  hots: {}\n", "2:3", "unknown key `hots`"),
        ("all:\n  hosts: 5\n", "2:3", "expected a mapping"),
        ("all:\n  hosts:\n    lab[1: {}\n", "3:5", "range"),
        ("all:\n  hosts: {h: [1]}\n", "2:14", "expected a mapping"),
        ("all:\n  children: {a: {children: {all: }}}\n", "2:29", "circle"),
        ("all:\n  vars: {ansible_group_priority: x}\n", "2:10", "no number"),
        ("all:\n  hosts: {h: {ansible_port: much}}\n", "2:15", "no port"),
        ("all: [\n", "2:1", "expected"),
    ],
)
def test_mistakes_are_shown_where_they_are(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(text)
    with pytest.raises(InventoryError, match=message) as caught:
        load_inventory(path)
    assert f"hosts.yml:{place}: " in str(caught.value)


def test_programs_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "cluster"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(InventoryError, match="not run") as caught:
        load_inventory(path)
    assert "--list" in str(caught.value.hint)


def test_files_beside_the_playbook_are_over_those_beside_the_inventory(tmp_path: Path) -> None:
    inventory, playbook = tmp_path / "inventory", tmp_path / "playbook"
    names = ("a", "b", "c", "d", "e", "f", "g")
    said = {
        "inventory/hosts": "[web]\nh f=line g=line\n[web:vars]\n"
        + "".join(f"{name}=ini\n" for name in names),
        "inventory/group_vars/all.yml": "{b: inv-all, c: inv-all, d: inv-all, e: inv-all}",
        "playbook/group_vars/all.yml": "{c: play-all, d: play-all, e: play-all}",
        "inventory/group_vars/web.yml": "{d: inv-web, e: inv-web}",
        "playbook/group_vars/web.yml": "{e: play-web}",
        "inventory/host_vars/h.yml": "{f: inv-host, g: inv-host}",
        "playbook/host_vars/h.yml": "{g: play-host, ansible_user: ada}",
    }
    for name, text in said.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = load_inventory(inventory / "hosts").beside(playbook)
    values = variables(found, "h")
    assert [values[name] for name in names] == [
        "ini", "inv-all", "play-all", "inv-web", "play-web", "inv-host", "play-host",
    ]  # fmt: skip
    assert found.hosts[0].user == "ada"
    alone = load_inventory(inventory / "hosts")
    assert alone.beside(inventory) is alone
    assert alone.beside(tmp_path) is alone


def test_what_is_in_vault_is_opened_with_the_password(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("h\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("a: !vault |\n  sealed\nb: 1\n")
    opened = load_inventory(tmp_path / "hosts", lambda text: text.strip().upper())
    assert variables(opened, "h") == {"a": "SEALED", "b": 1}


def test_what_is_in_vault_needs_a_password_where_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("h\n")
    (tmp_path / "group_vars").mkdir()
    beside = tmp_path / "group_vars/all.yml"
    beside.write_text("a: !vault |\n  sealed\nb: 1\n")
    (host,) = load_inventory(tmp_path / "hosts").hosts
    assert host.variables["b"] == 1
    listed = list_inventory(load_inventory(tmp_path / "hosts"))["_meta"]["hostvars"]["h"]
    assert listed == {"a": {"__ansible_vault": "sealed\n"}, "b": 1}
    with pytest.raises(PlaybookError, match=r"all\.yml:1:4: .*no password"):
        str(host.variables["a"])
    for password in ("!vault |\n  sealed", "'{{ a }}'"):
        beside.write_text(f"ansible_password: {password}\na: !vault |\n  sealed\n")
        (host,) = load_inventory(tmp_path / "hosts").hosts
        assert host.password is not None
        assert not host.password.is_known
        with pytest.raises(PlaybookError, match=r"all\.yml:.*no password"):
            host.password.reveal()
    beside.write_text("ansible_user: !vault |\n  sealed\n")
    with pytest.raises(InventoryError, match=r"all\.yml:1:1: .*no password"):
        load_inventory(tmp_path / "hosts")


def test_an_inventory_is_opened_that_is_encrypted_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    found = load_inventory(path, lambda _: "[web]\nh1\n")
    assert [host.name for host in found.hosts] == ["h1"]
    with pytest.raises(InventoryError, match=r"hosts: .*no password is given"):
        load_inventory(path)


def test_a_listing_has_no_passwords_and_is_an_inventory_itself() -> None:
    text = (
        "[web]\nh1 ansible_password=hush x='[1]'\nh2 ansible_become_password=hush\n"
        "[top:children]\nweb\n"
    )
    listing = list_inventory(parse_inventory(text))
    assert "hush" not in json.dumps(listing)
    assert listing["web"] == {"hosts": ["h1", "h2"]}
    assert listing["top"] == {"children": ["web"]}
    assert listing["_meta"]["hostvars"] == {"h1": {"x": [1]}, "h2": {}}
    assert list_inventory(parse_inventory(json.dumps(listing))) == listing


WORDS = st.text(st.characters(max_codepoint=0xFFFF, categories=["L", "N", "P"]))
WORDS = WORDS.filter(lambda text: "{{" not in text)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True)


@given(
    groups=st.dictionaries(
        NAMES.filter(lambda name: name not in ("all", "ungrouped")),
        st.lists(NAMES, min_size=1, max_size=4, unique=True),
        min_size=1,
        max_size=4,
    ),
    values=st.dictionaries(NAMES, st.one_of(st.integers(), WORDS, st.booleans()), max_size=3),
)
def test_a_listing_read_again_lists_the_same(
    groups: dict[str, list[str]], values: dict[str, object]
) -> None:
    hosts = {name for names in groups.values() for name in names}
    given = {
        **{name: {"hosts": names} for name, names in groups.items()},
        "_meta": {"hostvars": dict.fromkeys(hosts, values)},
    }
    listing = list_inventory(parse_inventory(json.dumps(given)))
    assert listing["_meta"]["hostvars"] == dict.fromkeys(hosts, values)
    assert list_inventory(parse_inventory(json.dumps(listing))) == listing


def test_extra_variables_of_connections_are_over_all(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/h.yml").write_text("ansible_user: ada\n")
    (tmp_path / "hosts").write_text("h\n")
    extra = {"ansible_user": "eve", "ansible_connection": "local", "other": 1}
    host = load_inventory(tmp_path / "hosts", None, extra).hosts[0]
    assert (host.user, host.is_local) == ("eve", True)
    assert "other" not in host.settings


def test_a_folder_is_all_the_inventories_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "production"
    for name, text in (
        ("01-hosts", "[web]\nlab1 own=first\n[db]\nlab2\n"),
        ("02-more.yml", "site: {children: {web: }}\nweb: {hosts: {lab1: {own: second}, lab3: }}\n"),
        ("group_vars/site.yml", "v: site\n"),
        ("host_vars/lab2/main.yml", "v: host\n"),
        (".hidden", "no inventory"),
        ("README.md", "no inventory"),
        ("hosts.retry", "no inventory"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    inventory = load_inventory(folder)
    assert {name: group.hosts for name, group in inventory.groups.items()} == {
        "all": ("lab2", "lab1", "lab3"),
        "ungrouped": (),
        "web": ("lab1", "lab3"),
        "db": ("lab2",),
        "site": ("lab1", "lab3"),
    }
    assert variables(inventory, "lab1")["own"] == "second"
    assert [variables(inventory, name)["v"] for name in ("lab1", "lab2", "lab3")] == [
        "site", "host", "site",
    ]  # fmt: skip


def test_of_several_inventories_the_later_counts_more(tmp_path: Path) -> None:
    for name, text in (
        ("a/hosts", "[web]\nlab1 v=1 own=a\n"),
        ("b/hosts.yml", "web: {vars: {w: 2}}\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(text)
    (tmp_path / "b/host_vars").mkdir()
    (tmp_path / "b/host_vars/lab1.yml").write_text("v: 3\n")
    inventory = load_inventory([str(tmp_path / "a/hosts"), str(tmp_path / "b/hosts.yml"), "lab9,"])
    assert [host.name for host in inventory.hosts] == ["lab9", "lab1"]
    found = variables(inventory, "lab1")
    assert (found["v"], found["w"], found["own"]) == (3, 2, "a")


def test_groups_of_two_inventories_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[one:children]\ntwo\n[two]\n")
    (tmp_path / "b").write_text("[two:children]\none\n[one]\n")
    with pytest.raises(InventoryError, match="circle"):
        load_inventory(tmp_path)


def test_hosts_of_several_inventories_are_in_ansibles_order(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text(
        "mail\n[web]\nw2\nw1\n[prod:children]\nweb\ndb\n[lb]\nw1\n[db]\nd\n"
    )
    (tmp_path / "b.yml").write_text(
        "all:\n  hosts: {top: }\n  children:\n    extra: {hosts: {x1: , w1: }}\n"
        "    web: {hosts: {w0: }}\n    db: {}\n"
    )
    inventory = load_inventory([str(tmp_path / "a.ini"), str(tmp_path / "b.yml")])
    # Groups that a file puts below `all` come before those that have no other place.
    assert [host.name for host in inventory.hosts] == ["top", "mail", "x1", "w1", "w2", "w0", "d"]
