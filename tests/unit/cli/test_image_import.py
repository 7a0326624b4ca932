"""Whom `image import` trusts, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.assembly.images import LocalImages
from sappers.cli.image_keep import import_
from sappers.config import ControlHome
from sappers.errors import ImageError, ImageUntrusted
from sappers.images.archive_file import export_image
from sappers.model.image import Manifest, MicrovmBoot


def images_of(folder: Path, name: str) -> LocalImages:
    return LocalImages(ControlHome(folder / name, folder / "cache"))


def signed_file(folder: Path, *names: str) -> tuple[Path, list[str]]:
    """An image that these have signed, as a file; their keys."""
    first = images_of(folder, names[0])
    boot = MicrovmBoot(first.store.put([b"kernel"]), first.store.put([b"initrd"]))
    digest, keys = "", []
    for one in [images_of(folder, name) for name in names]:
        key = one.own_key(create=True)
        assert key is not None and one._signing_key is not None
        first.trust(key)
        digest = first.store.put_manifest(Manifest("hello", "x86_64", boot), one._signing_key)
        keys.append(key.key)
    export_image(first.store, digest, folder / "hello.img")
    return folder / "hello.img", keys


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> LocalImages:
    """Of a machine on which nothing was ever done."""
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "fresh"))
    return images_of(tmp_path, "fresh")


def test_whoever_signed_a_file_is_trusted_once_all_of_it_is_here(tmp_path, fresh):
    file, (key,) = signed_file(tmp_path, "mine")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError):
        import_(file, trust=True)
    assert not fresh.trusted()
    file.write_bytes(whole)
    with pytest.raises(ImageUntrusted, match="not signed by a trusted key"):
        import_(file)
    import_(file, trust=True)
    assert fresh.trusted() == {key}
    import_(file)


def test_of_several_who_signed_a_file_one_is_named(tmp_path, fresh):
    file, (mine, yours) = signed_file(tmp_path, "mine", "yours")
    for words in ({"trust": True}, {"trust_key": "0" * 64}, {"trust_key": mine[:8]}):
        with pytest.raises(ImageUntrusted) as refused:
            import_(file, **words)
        assert "--trust-key" in refused.value.hint and {mine, yours} == set(refused.value.keys)
    import_(file, trust_key=yours)
    assert fresh.trusted() == {yours}
    import_(file, trust=True)  # one whom this machine trusts is enough
    assert fresh.trusted() == {yours}
