"""Container images: what other tools write is understood, and nothing of it is believed."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.oci import open_container
from sappers.images.tree import Folder, Tree
from tests.unit.images.containers import (
    Layout,
    docker_save,
    file,
    folder,
    hard_link,
    layer,
    symlink,
)

BASE = layer(folder("bin"), file("bin/app", "old", mode=0o4755, uid=5, gid=6), file("etc/a", "a"))
TOP = layer(file("bin/app", "new", mode=0o755), file("etc/.wh.a"))


def unpacked(path: Path, spool: Path) -> Tree:
    spool.mkdir(exist_ok=True)
    with open_container(path) as image:
        tree = Tree(spool, image.name)
        for _ in image.unpack(tree):
            pass
        return tree


@pytest.mark.parametrize("pack", ["", "gzip", "zstd", "gzip in parts", "zstd in parts"])
@pytest.mark.parametrize("form", ["folder", "tar", "dir"])
def test_a_layout_is_unpacked_layer_by_layer(tmp_path: Path, pack: str, form: str) -> None:
    layout = Layout()
    layout.index(layout.image([BASE, TOP], pack, Cmd=["/bin/app"], Env=["A=1"]))
    forms = {"folder": layout.write_folder, "tar": layout.write_tar, "dir": layout.write_plain}
    path = forms[form](tmp_path / "image")
    tree = unpacked(path, tmp_path / "spool")
    assert tree.read("bin/app") == b"new"
    assert tree.find("etc/a") is None
    with open_container(path) as image:
        assert image.process.cmd == ["/bin/app"]
        assert image.process.env == ["A=1"]


def test_what_docker_save_writes_is_unpacked(tmp_path: Path) -> None:
    path = docker_save(
        tmp_path / "saved.tar", [BASE, TOP], ExposedPorts={"80/tcp": {}, "53/udp": {}}
    )
    assert unpacked(path, tmp_path / "spool").read("bin/app") == b"new"
    with open_container(path) as image:
        assert image.process.tcp_ports == (80,)


def test_owners_and_permissions_are_kept(tmp_path: Path) -> None:
    tree = unpacked(docker_save(tmp_path / "saved.tar", [BASE]), tmp_path / "spool")
    found = tree.find("bin/app")
    assert found is not None
    assert (found.mode, found.user_id, found.group_id) == (stat.S_IFREG | 0o4755, 5, 6)


def test_the_machine_is_chosen_from_an_index(tmp_path: Path) -> None:
    layout = Layout()
    arm = layout.image([TOP], architecture="arm64")
    amd = layout.image([BASE])
    nested = layout.json(
        {
            "manifests": [
                {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
                {**amd, "platform": {"os": "linux", "architecture": "amd64"}},
                {**layout.json({}), "platform": {"os": "unknown", "architecture": "unknown"}},
            ]
        }
    )
    layout.index({"mediaType": "application/vnd.oci.image.index.v1+json", **nested})
    tree = unpacked(layout.write_folder(tmp_path / "image"), tmp_path / "spool")
    assert tree.read("bin/app") == b"old"


def test_an_image_for_another_machine_is_refused(tmp_path: Path) -> None:
    layout = Layout()
    arm = layout.image([BASE], architecture="arm64")
    path = layout.index(arm).write_folder(tmp_path / "image")
    with pytest.raises(ImageError, match="linux/arm64, not linux/amd64"):
        unpacked(path, tmp_path / "spool")


@pytest.mark.parametrize("number", range(3))
def test_a_changed_blob_is_refused(tmp_path: Path, number: int) -> None:
    """Configuration, layer and manifest alike."""
    layout = Layout()
    layout.index(layout.image([BASE], ""))
    name = sorted(name for name in layout.files if name.startswith("blobs"))[number]
    content = layout.files[name]
    layout.files[name] = content.replace(b"old", b"bad") if b"old" in content else content + b" "
    with pytest.raises(ImageError, match="not what its digest says"):
        unpacked(layout.write_folder(tmp_path / "image"), tmp_path / "spool")


def test_a_layer_that_the_configuration_does_not_list_is_refused(tmp_path: Path) -> None:
    path = docker_save(tmp_path / "saved.tar", [BASE])
    path.write_bytes(path.read_bytes().replace(b"old", b"bad"))
    with pytest.raises(ImageError, match="not what its digest says"):
        unpacked(path, tmp_path / "spool")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([file("../outside")], "leads outside"),
        ([file("a/../../outside")], "leads outside"),
        ([file("/../outside")], "leads outside"),
        ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "go round"),
        ([hard_link("x", "../../etc/shadow")], "leads outside"),
        ([hard_link("x", "gone")], "no file"),
        ([file("etc/.wh...")], "deletes nothing"),
    ],
)
def test_no_name_leads_outside(tmp_path: Path, members: list, words: str) -> None:
    path = docker_save(tmp_path / "saved.tar", [layer(*members)])
    with pytest.raises(ImageError, match=words):
        unpacked(path, tmp_path / "spool")
    assert {each.name for each in tmp_path.iterdir()} == {"saved.tar", "spool"}


def test_links_are_followed_inside_and_nowhere_else(tmp_path: Path) -> None:
    path = docker_save(
        tmp_path / "saved.tar",
        [
            layer(folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr/../usr/lib")),
            layer(file("lib/one", "1"), file("abs/two", "2"), symlink("etc", str(tmp_path))),
            layer(file("etc/three", "3")),
        ],
    )
    tree = unpacked(path, tmp_path / "spool")
    assert tree.read("usr/lib/one") == b"1"
    assert tree.read("usr/lib/two") == b"2"
    assert tree.read("etc/three") == b"3"  # below the guest's own folder of that name
    assert not (tmp_path / "three").exists()


def test_above_the_root_is_the_root(tmp_path: Path) -> None:
    path = docker_save(
        tmp_path / "saved.tar",
        [
            layer(file("/etc/one", "1"), hard_link("same", "/etc/one")),
            layer(symlink("usr/up", "../../../etc"), file("usr/up/two", "2")),
            layer(file("/etc/.wh.one")),
        ],
    )
    tree = unpacked(path, tmp_path / "spool")
    assert [entry.path for entry in tree.entries()] == ["etc", "etc/two", "same", "usr", "usr/up"]
    assert tree.read("same") == b"1"
    assert tree.read("usr/up/two") == b"2"
    assert {each.name for each in tmp_path.iterdir()} == {"saved.tar", "spool"}


def test_an_opaque_folder_forgets_lower_layers_only(tmp_path: Path) -> None:
    path = docker_save(
        tmp_path / "saved.tar",
        [
            layer(file("data/old"), file("data/deep/old"), file("kept")),
            layer(file("data/new"), file("data/.wh..wh..opq"), file("data/deep/new")),
            layer(file("data/.wh.new"), file("data/.wh.never-there")),
        ],
    )
    tree = unpacked(path, tmp_path / "spool")
    assert [entry.path for entry in tree.entries()] == [
        "data",
        "data/deep",
        "data/deep/new",
        "kept",
    ]


@pytest.mark.parametrize("deletion", [".wh.secret", ".wh..wh..opq"])
def test_a_new_name_of_a_deleted_file_does_not_keep_its_old_one(
    tmp_path: Path, deletion: str
) -> None:
    path = docker_save(
        tmp_path / "saved.tar",
        [
            layer(file("d/secret", "s"), hard_link("keep", "d/secret")),
            layer(hard_link("again", "keep"), file(f"d/{deletion}")),
        ],
    )
    tree = unpacked(path, tmp_path / "spool")
    assert {entry.path for entry in tree.entries()} - {"d"} == {"again", "keep"}


def test_hard_links_stay_one_file(tmp_path: Path) -> None:
    members = [file("a", "x" * 9000), hard_link("b", "a")]
    tree = unpacked(docker_save(tmp_path / "s.tar", [layer(*members)]), tmp_path / "spool")
    one, two = tree.entries()
    assert one.link == two.link != 0
    assert one.content == two.content


def test_a_hard_link_to_a_lower_layer_s_file_keeps_what_that_was(tmp_path: Path) -> None:
    upper = layer(hard_link("b", "a"), file("a", "new"))
    path = docker_save(tmp_path / "s.tar", [layer(file("a", "old", mode=0o600, uid=7)), upper])
    tree = unpacked(path, tmp_path / "spool")
    found = tree.find("b")
    assert (tree.read("a"), tree.read("b")) == (b"new", b"old")
    assert found is not None and (found.mode, found.user_id) == (stat.S_IFREG | 0o600, 7)


def test_a_layer_that_docker_saved_once_and_named_twice_is_unpacked_twice(tmp_path: Path) -> None:
    path, again = docker_save(tmp_path / "saved.tar", [BASE, TOP, BASE]), "2/layer.tar"
    with tarfile.open(path) as archive:
        contents = [(one.name, archive.extractfile(one)) for one in archive]
        members = [file(name, found.read()) for name, found in contents if found and name != again]
    path.write_bytes(layer(*members, symlink(again, "../0/layer.tar")))
    tree = unpacked(path, tmp_path / "spool")
    assert (tree.read("bin/app"), tree.read("etc/a")) == (b"old", b"a")


def test_devices_are_left_to_the_guest_and_files_take_the_place_of_folders(tmp_path: Path) -> None:
    device = file("dev/null", "", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    tree = unpacked(
        docker_save(tmp_path / "s.tar", [layer(device, file("x/y")), layer(file("x", "file"))]),
        tmp_path / "spool",
    )
    assert tree.find("dev/null") is None
    assert tree.read("x") == b"file"


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(ImageError, match="neither a folder nor a tar"):
        unpacked(tmp_path / "text", tmp_path / "spool")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no container image"):
        unpacked(tmp_path / "empty", tmp_path / "spool")
    (tmp_path / "empty" / "index.json").write_text("[")
    with pytest.raises(ImageError, match="cannot be read"):
        unpacked(tmp_path / "empty", tmp_path / "spool")


def test_a_torn_layer_is_refused(tmp_path: Path) -> None:
    layout = Layout()
    layout.index(layout.image([BASE], "gzip"))
    path = layout.write_folder(tmp_path / "image")
    manifest = next(
        json.loads(text)
        for text in layout.files.values()
        if b'"layers"' in text and b'"config"' in text and b"diff_ids" not in text
    )
    blob = path / "blobs" / "sha256" / manifest["layers"][0]["digest"][7:]
    blob.write_bytes(blob.read_bytes()[:-20])
    with pytest.raises(ImageError):
        unpacked(path, tmp_path / "spool")


def test_root_s_own_permissions_are_kept(tmp_path: Path) -> None:
    tree = unpacked(
        docker_save(tmp_path / "s.tar", [layer(folder("./", mode=0o750))]), tmp_path / "s"
    )
    assert isinstance(tree.find("/"), Folder)
    assert tree.root.mode == stat.S_IFDIR | 0o750
