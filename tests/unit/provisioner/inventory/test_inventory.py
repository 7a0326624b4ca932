from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import InventoryError
from sappers.provisioner.inventory.ini import read_ini
from sappers.provisioner.inventory.inventory import (
    Host,
    Inventory,
    Secret,
    load_inventory,
    parse_inventory,
)


@pytest.fixture
def load(tmp_path: Path) -> object:
    def read(text: str, **files: str) -> Inventory:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (tmp_path / "lab.ini").write_text(text)
        return load_inventory(tmp_path / "lab.ini")

    return read


def host(inventory: Inventory, name: str = "h") -> Host:
    return next(host for host in inventory.hosts if host.name == name)


def test_groups_children_and_the_ungrouped(load) -> None:
    inventory = load(
        "loose\n[top:children]\nweb\ndb # comes later\n[web]\nlab[1:2]\n; comment\n[db]\nlab2\ndb1"
    )
    assert [found.name for found in inventory.hosts] == ["loose", "lab1", "lab2", "db1"]
    assert inventory.groups["top"].hosts == ("lab1", "lab2", "db1")
    assert inventory.groups["top"].children == ("web", "db")
    assert inventory.groups["ungrouped"].hosts == ("loose",)
    assert host(inventory, "lab2").groups == ("all", "db", "top", "web")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("x=1", 1),
        ("x='1'", 1),
        ("x=\"'1'\"", "1"),
        ("x=True", True),
        ("x=true", "true"),
        ("x=[1,2]", [1, 2]),
        ("x=[1, 2]", None),
        ('x="[1, 2]"', [1, 2]),
        ("x=\"{'a': None}\"", {"a": None}),
        ("x=a=b", "a=b"),
        ("x=", ""),
        ("x=a#b", "a"),
        ("x=007", "007"),
        ("x=a\\ b # note", "a b"),
        ("x='b\"raw\"'", "raw"),
    ],
)
def test_values_of_host_lines(load, written: str, value: object) -> None:
    if value is None:
        with pytest.raises(InventoryError, match=r"lab\.ini:1:9: .*key=value"):
            load(f"h {written}")
        return
    found = host(load(f"h {written}")).variables["x"]
    assert (found, type(found)) == (value, type(value))


def test_values_of_vars_sections_take_the_rest_of_the_line(load) -> None:
    found = host(load("h\n[all:vars]\na = [1, 2] # two\nb = some words # kept\nc=1=2")).variables
    assert found == {"a": [1, 2], "b": "some words # kept", "c": "1=2"}


def test_the_nearer_variable_wins(load) -> None:
    text = (
        "[child]\nh own=line\n[b]\nh\n[a]\nh\n[parent:children]\nchild\n"
        "[all:vars]\nv=all\n[parent:vars]\nv=parent\nw=parent\n[child:vars]\nw=child\n"
        "[a:vars]\nx=a\n[b:vars]\nx=b\n[child:vars]\nx=child\n"
    )
    found = host(load(text)).variables
    assert found == {"v": "parent", "w": "child", "x": "child", "own": "line"}
    weighed = text.replace("[child:vars]\nx=child\n", "[a:vars]\nansible_group_priority=2\n")
    assert host(load(weighed)).variables["x"] == "a"


def test_files_of_groups_are_over_the_inventory_and_files_of_hosts_over_all(load) -> None:
    found = host(
        load(
            "[g]\nh d=line\n[g:vars]\na=ini\nb=ini\nc=ini\nd=ini\n",
            group_vars__all="a: all-file\n",
            group_vars__g__one__yml="b: x\n",
            **{"group_vars__g/one.yml": "b: yes\n", "host_vars__h.yml": "d: host-file\n"},
        )
    ).variables
    assert found == {"a": "all-file", "b": True, "c": "ini", "d": "host-file"}


def test_connection_variables_are_typed(load) -> None:
    found = host(
        load(
            "h ansible_host=10.0.0.1 ansible_port=22 ansible_ssh_port=2222 ansible_user=ada "
            "ansible_become=yes ansible_become_password=hush ansible_password=12345 "
            'ansible_ssh_private_key_file="{{ inventory_dir }}/{{ inventory_hostname }}.key" '
            "ansible_ssh_common_args='-o UserKnownHostsFile=~/k -J a@b:3 -oConnectTimeout=7' "
            "ansible_ssh_extra_args='-o \"Port 99\" -o StrictHostKeyChecking=accept-new'",
        )
    )
    assert (found.address, found.port, found.user, found.become) == ("10.0.0.1", 2222, "ada", True)
    assert found.become_password == Secret("hush")
    assert found.password == Secret("12345")
    assert found.private_key_file is not None
    assert found.private_key_file.name == "h.key"
    options = found.common_args
    assert options.user_known_hosts_files == (Path("~/k").expanduser(),)
    assert (options.proxy_jump, options.connect_timeout_seconds) == ("a@b:3", 7)
    assert (options.port, options.host_key_checking) == (99, "accept-new")
    shown = repr(found) + repr(found.variables) + str(found.variables)
    assert "hush" not in shown
    assert "12345" not in shown


def test_only_the_inventory_s_own_templates_are_rendered(load) -> None:
    found = host(load('h a=1 b="{{ a }}{{ c }}" c="{{ a + 1 }}" d=\'{{ ansible_facts.x }}\''))
    assert found.variables["b"] == "12"
    assert found.variables["d"] == "{{ ansible_facts.x }}"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("h\n[g:odd]\n", "2:3", "unknown type"),
        ("h\n[g h]\n", "2:1", "malformed section"),
        ("h\n[g\n", "2:1", "malformed section"),
        ("h\n[g:children]\nno\n", "3:1", "undefined group no"),
        ("h\n  [g:vars]\nx=1\n", "2:4", "undefined group g"),
        ("[a:children]\nb\n[b:children]\na\n", "4:1", "circle"),
        ("[a:children]\na\n", "2:1", "circle"),
        ("h x='1\n", "1:3", "closing quotation"),
        ("h  loose\n", "1:4", "key=value"),
        ("h =1\n", "1:3", "key=value"),
        ("  lab[1\n", "1:3", "begins a host range"),
        ("h a=1 ansible_port=much\n", "1:7", "no port"),
        ("h ansible_become=perhaps\n", "1:3", "neither yes nor no"),
        ("h ansible_become_method=runas\n", "1:3", "use sudo, su, doas"),
        ("h ansible_connection=docker\n", "1:3", "use ssh"),
        (
            "h\n[all:vars]\nansible_ssh_common_args=-o ForwardAgent=yes\n",
            "3:1",
            "`forwardagent` is",
        ),
        ("h ansible_ssh_common_args='-o StrictHostKeyChecking=no'\n", "1:3", "accept-new"),
        ("h ansible_user='{{ 1 / 0 }}'\n", "1:3", "template"),
        ("h ansible_user='{{ missing }}'\n", "1:3", "missing"),
        ("h ansible_user='{{ ansible_user }}'\n", "1:3", "itself"),
        ("h ansible_host=[1]\n", "1:3", "expected a text"),
        ("h x={[]:1}\n", "1:3", "literal"),
        ("[all:vars]\nonly words\n", "2:1", "key=value"),
        ("[all:vars]\nansible_group_priority=x\n", "2:1", "no number"),
        ("h x=1\n[g:vars]\n", "2:2", "undefined group g"),
    ],
)
def test_mistakes_are_shown_where_they_are(load, text: str, place: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message) as caught:
        load(text)
    assert f"lab.ini:{place}: " in str(caught.value)


def test_mistakes_in_files_beside_are_shown_where_they_are(load, tmp_path: Path) -> None:
    for content, place in (
        ("a: 1\nb: [\n", "all.yml:3:1"),
        ("- a\n", "all.yml:1:1"),
        ("ansible_user: !vault x\n", "all.yml:1:1"),
        ("a: 1\na: 2\n", "all.yml:2:1"),
        ("a: 1\nansible_port: many\n", "all.yml:2:1"),
        ("d: 2001-99-99\n", "all.yml"),
        ("1: x\n", "all.yml:1:1"),
        ("$ANSIBLE_VAULT;1.1;AES256\n", "all.yml"),
    ):
        with pytest.raises(InventoryError) as caught:
            load("h\n", **{"group_vars__all.yml": content})
        assert place in str(caught.value), content


def test_a_mistake_never_repeats_a_password(load) -> None:
    for line in ("h ansible_password='hush", "h ansible_password=hush hush", "h hush=1 ' hush"):
        with pytest.raises(InventoryError) as caught:
            load(line)
        assert "hush" not in str(caught.value) + str(caught.value.hint)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ini", tmp_path):
        with pytest.raises(InventoryError, match="cannot be read"):
            load_inventory(path)
    path = tmp_path / "bytes.ini"
    path.write_bytes(b"# \xff\nh\n")
    assert [found.name for found in load_inventory(path).hosts] == ["h"]
    path.write_bytes(b"h\nx\xff\n")
    with pytest.raises(InventoryError, match=r"bytes\.ini:2:2: no UTF-8"):
        load_inventory(path)


def test_select_says_which_names_exist(load) -> None:
    inventory = load("[web]\nlab[1:3]\n")
    assert [found.name for found in inventory.select("lab3,lab1")] == ["lab1", "lab3"]
    assert inventory.select(None) == inventory.hosts
    with pytest.raises(InventoryError, match="lab9") as caught:
        inventory.select("lab9")
    assert caught.value.hint == "hosts: lab1, lab2, lab3; groups: all, ungrouped, web"


@given(st.text(alphabet="[]:=#; \n'\"\\ha1,{}()-xv|٣\t$", max_size=80))
def test_garbage_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        read_ini(text, "garbage.ini")
    except InventoryError as error:
        assert error.line is not None
        assert error.column is not None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "garbage.ini"
    path.write_bytes(data)
    try:
        load_inventory(path)
    except InventoryError as error:
        assert error.path == str(path)


def test_a_deep_literal_is_refused(load) -> None:
    with pytest.raises(InventoryError, match="literal"):
        load(f"h x={'-' * 100_000}1")


def test_no_log_or_traceback_shows_what_variables_hold() -> None:
    text = "[web]\nw1 token=of-the-host ansible_password=hush\n[web:vars]\nk=of-the-group\n"
    found = parse_inventory(text, None)
    assert "w1" in repr(found.hosts)
    for shown in (found, found.hosts, found.groups):
        assert not any(one in repr(shown) for one in ("of-the-host", "hush", "of-the-group"))
