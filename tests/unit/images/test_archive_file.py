"""An image as one file: what arrives is what was sent, and everything else is refused."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sappers.errors import ImageError, ImageIncomplete, ImageUntrusted
from sappers.images.archive_file import export_image, import_image, look_into
from sappers.images.store import FolderImageStore
from sappers.model.image import CHUNK_BYTES
from tests.image_stores import KEY, STRANGER, damage, files, make_store, put_image

CONTENT = os.urandom(CHUNK_BYTES) + b"the end"

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def source(tmp_path: Path) -> FolderImageStore:
    return make_store(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> FolderImageStore:
    return make_store(tmp_path / "target")


@pytest.fixture
def exported(source: FolderImageStore, tmp_path: Path) -> Path:
    path = tmp_path / "web.image"
    export_image(source, put_image(source, initrd=CONTENT), path)
    return path


def members_of(path: Path) -> Members:
    with tarfile.open(path) as archive:
        found = archive.getmembers()
        contents = [archive.extractfile(one) for one in found]
        return [(one, file.read()) for one, file in zip(found, contents, strict=True) if file]


def write_tar(path: Path, members: Members, form: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=form) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_an_image_arrives_with_its_name(
    source: FolderImageStore, target: FolderImageStore, exported: Path
) -> None:
    told: list[tuple[int, int]] = []
    digest = import_image(target, exported, lambda done, of: told.append((done, of)))
    assert target.named() == source.named() == {"web": digest}
    assert told == [(1, 3), (2, 3), (3, 3)]
    initrd = target.assemble(digest).blobs()[1]
    assert target.blob_path(initrd.digest).read_bytes() == CONTENT
    target.verify(digest)
    assert import_image(target, exported) == digest  # again


def test_equal_stores_make_equal_files(source: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(source, initrd=CONTENT)
    other = make_store(tmp_path / "other")
    assert put_image(other, initrd=CONTENT) == digest
    export_image(source, digest, tmp_path / "a")
    told: list[tuple[int, int]] = []
    export_image(other, digest, tmp_path / "b", lambda done, of: told.append((done, of)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert told[-1] == (3, 3)


def test_any_tar_can_list_it(exported: Path) -> None:
    names = [member.name for member, _ in members_of(exported)]
    assert names[0] == "image.json"
    assert len(names) == 4 and all(name.startswith("chunks/") for name in names[1:])


def test_a_file_packed_again_by_another_tar_is_the_same_image(
    target: FolderImageStore, exported: Path, tmp_path: Path
) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):
        members = members_of(exported)
        for member, _ in members:
            member.mtime, member.uname, member.uid = 1_700_000_000, "somebody", 1000
        write_tar(tmp_path / "again", members, form)
        import_image(target, tmp_path / "again")


def test_a_strangers_image_is_refused_and_says_whose_it_is(
    target: FolderImageStore, tmp_path: Path
) -> None:
    stranger = make_store(tmp_path / "stranger", lambda: (STRANGER.public,))
    digest = put_image(stranger, key=STRANGER)
    path = tmp_path / "file"
    export_image(stranger, digest, path)
    with pytest.raises(ImageUntrusted) as refused:
        import_image(target, path)
    assert refused.value.keys == look_into(path).keys == (STRANGER.public,)
    assert STRANGER.public in (refused.value.hint or "")
    assert files(tmp_path / "target") == set()
    found = look_into(path)
    assert (found.digest, found.manifest.name) == (digest, "web")
    trusting = make_store(tmp_path / "target", lambda: (KEY.public, *look_into(path).keys))
    assert import_image(trusting, path) == digest


def nothing_has_a_name(target: FolderImageStore) -> bool:
    folder = target.blob_path("0" * 64).parents[2]
    return not target.named() and not files(folder / "manifests")


def test_a_file_that_is_cut_off_is_refused(
    target: FolderImageStore, exported: Path, tmp_path: Path
) -> None:
    content = exported.read_bytes()
    cut = tmp_path / "cut"
    for length in (0, 1, 511, 512, 2000, len(content) // 2, len(content) - 1024, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(ImageError, match="cut off"):
            import_image(target, cut)
        assert nothing_has_a_name(target)
    import_image(target, exported)  # goes on where it stopped
    target.verify(target.named()["web"])


def renamed(name: str) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        members[2][0].name = name
        return members

    return change


def typed(kind: bytes) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        members[2][0].type = kind
        members[2][0].linkname = "/etc/passwd"
        return [*members[:2], (members[2][0], b""), *members[3:]]

    return change


def other_content(members: Members) -> Members:
    return [*members[:2], (members[2][0], members[3][1]), members[3]]


def too_long(members: Members) -> Members:
    return [*members[:2], (members[2][0], bytes(2 * CHUNK_BYTES)), members[3]]


def too_long_a_manifest(members: Members) -> Members:
    return [(members[0][0], bytes(9 << 20)), *members[1:]]


@pytest.mark.parametrize(
    "change",
    [
        renamed("../../../etc/cron.d/chunk"),
        renamed("/etc/passwd"),
        renamed("chunks/" + "0" * 64),
        renamed("names/web"),
        renamed("x" * 200),
        typed(tarfile.SYMTYPE),
        typed(tarfile.LNKTYPE),
        typed(tarfile.DIRTYPE),
        typed(tarfile.FIFOTYPE),
        lambda members: members[:2],
        lambda members: [*members[:2], members[1], *members[2:]],
        lambda members: [*members, members[0]],
        lambda members: [*members, (tarfile.TarInfo("unknown"), b"x")],
        lambda members: [members[0], members[2], members[1], members[3]],
        lambda members: members[1:],
        other_content,
        too_long,
        too_long_a_manifest,
    ],
)
def test_other_members_are_refused(
    target: FolderImageStore,
    exported: Path,
    tmp_path: Path,
    change: Callable[[Members], Members],
) -> None:
    write_tar(tmp_path / "changed", change(members_of(exported)), tarfile.GNU_FORMAT)
    with pytest.raises(ImageError):
        import_image(target, tmp_path / "changed")
    assert nothing_has_a_name(target)
    assert {path.name for path in (tmp_path / "target").iterdir()} <= {"chunks", "lock"}


def test_a_damaged_chunk_is_the_files_fault(target: FolderImageStore, exported: Path) -> None:
    frame = exported.read_bytes().index(b"\x28\xb5\x2f\xfd")  # where zstd's first one begins
    damage(exported, at=frame + 12)
    with pytest.raises(ImageError) as caught:
        import_image(target, exported)
    assert str(exported) in caught.value.message
    assert caught.value.hint == "export it again"


@pytest.mark.parametrize("tail", [b"x", bytes(512) + b"x", bytes(2 << 20)])
def test_nothing_may_follow(target: FolderImageStore, exported: Path, tail: bytes) -> None:
    exported.write_bytes(exported.read_bytes() + tail)
    with pytest.raises(ImageError, match="something follows"):
        import_image(target, exported)
    assert nothing_has_a_name(target)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
@given(data=st.data())
def test_a_flipped_bit_never_gives_another_image(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    source, target = make_store(folder / "source"), make_store(folder / "target")
    digest = put_image(source, initrd=b"some text, " * 100)
    export_image(source, digest, folder / "file")
    damage(folder / "file", at=data.draw(st.integers(0, (folder / "file").stat().st_size - 1)))
    try:
        assert import_image(target, folder / "file") == digest
    except ImageError:
        assert nothing_has_a_name(target)
    else:
        target.verify(digest)


@given(st.binary(max_size=2000))
def test_garbage_is_no_image(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "file"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        look_into(path)


def test_what_is_not_whole_is_not_exported(source: FolderImageStore, tmp_path: Path) -> None:
    digest = put_image(source, initrd=CONTENT)
    manifest = source.manifest(digest)
    assert manifest is not None
    (tmp_path / "kept").write_bytes(b"an older export")
    chunk = manifest.chunks()[1]
    damage(tmp_path / "source" / "chunks" / chunk[:2] / chunk, at=30)
    for _ in ("found damaged", "missing now"):
        with pytest.raises(ImageIncomplete) as lacking:
            export_image(source, digest, tmp_path / "kept")
        assert lacking.value.missing == (chunk,)
    assert (tmp_path / "kept").read_bytes() == b"an older export"
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "source"}


def test_places_that_cannot_be_written_or_read_say_so(
    source: FolderImageStore, tmp_path: Path
) -> None:
    digest = put_image(source)
    with pytest.raises(ImageError, match="no plain file"):
        export_image(source, digest, tmp_path)
    with pytest.raises(ImageError, match="nowhere is no folder"):
        export_image(source, digest, tmp_path / "nowhere" / "file")
    with pytest.raises(ImageError, match="No such file"):
        import_image(source, tmp_path / "nothing")
    with pytest.raises(ImageError, match="directory"):
        import_image(source, tmp_path)
    with pytest.raises(ImageError, match="is not here"):
        export_image(source, "0" * 64, tmp_path / "file")
