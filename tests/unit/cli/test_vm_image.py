from __future__ import annotations

from pathlib import Path

import pytest

from sappers.agent.flags import StartFlags
from sappers.assembly.by_hand import KEYS_FOLDER, ClusterKeys, load_cluster_keys, prepare_by_hand
from sappers.cli.agent_requests import Launch
from sappers.cli.vm_image import opened_image
from sappers.config import StateFolder
from sappers.errors import ImageError
from sappers.images.archive_file import export_image
from sappers.model.image import NanosBoot
from sappers.security.signing import signers
from tests.image_stores import STRANGER, make_store, put_image


@pytest.fixture
def keys(tmp_path: Path) -> ClusterKeys:
    state = tmp_path / "raft" / "node1"
    state.mkdir(parents=True)
    flags = StartFlags(bootstrap=1, raft_addr="127.0.0.1:12000")
    prepare_by_hand(StateFolder(state), flags, None)
    found = load_cluster_keys(tmp_path / "raft" / KEYS_FOLDER)
    assert found is not None
    return found


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    store = make_store(tmp_path / "builder", lambda: (STRANGER.public,))
    path = tmp_path / "web.image"
    export_image(store, put_image(store, key=STRANGER), path)
    return path


def launch(kind: str) -> Launch:
    return Launch("my-app", kind, None, "", 8080)  # type: ignore[arg-type]


def test_an_image_that_anybody_built_is_signed_by_the_cluster(
    keys: ClusterKeys, exported: Path
) -> None:
    with opened_image(exported, launch("microvm"), keys) as (store, digest):
        signed = store.signed(digest)
        assert signed is not None
        assert keys.signing_key.public in signers(signed)
        assert store.missing_chunks(digest) == ()
    assert list(keys.folder.glob(".vm-image-*")) == []


def test_a_raw_disk_is_a_nanos_image_of_the_workloads_name(
    keys: ClusterKeys, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(510) + b"\x55\xaa" + b"the rest" * 1000)
    with opened_image(disk, launch("nanos"), keys) as (store, digest):
        manifest = store.manifest(digest)
        assert manifest is not None
        assert isinstance(manifest.boot, NanosBoot)
        assert (manifest.name, manifest.guest_port) == ("my-app", 8080)
        assert manifest.boot.disk.size_bytes == disk.stat().st_size


def test_what_does_not_fit_the_flag_names_the_one_that_does(
    keys: ClusterKeys, exported: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(ImageError, match="--launch-nanovm does not launch") as refused,
        opened_image(exported, launch("nanos"), keys),
    ):
        pass
    assert refused.value.hint == "--launch-microvm my-app"
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(510) + b"\x55\xaa")
    with (
        pytest.raises(ImageError, match="which only --launch-nanovm launches"),
        opened_image(disk, launch("microvm"), keys),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"image.json", bytes(4096)])
def test_anything_else_is_no_image(keys: ClusterKeys, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some.file"
    file.write_bytes(content)
    with (
        pytest.raises(ImageError, match="is no image") as refused,
        opened_image(file, launch("nanos"), keys),
    ):
        pass
    assert "image export" in (refused.value.hint or "")
    with (
        pytest.raises(ImageError, match="No such file"),
        opened_image(tmp_path / "nowhere", launch("nanos"), keys),
    ):
        pass
