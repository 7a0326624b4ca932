"""Container images made by hand, for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import zstandard

Member = tuple[str, "bytes | str | None", dict]


def layer(*members: Member) -> bytes:
    """A tar of (name, content, fields of its header); no content: a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            body = content.encode() if isinstance(content, str) else content
            if body is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, info.mode = len(body), 0o644
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(body or b""))
    return buffer.getvalue()


def file(name: str, content: bytes | str = "", **fields) -> Member:
    return (name, content, fields)


def folder(name: str, **fields) -> Member:
    return (name, None, fields)


def symlink(name: str, target: str) -> Member:
    return (name, "", {"type": tarfile.SYMTYPE, "linkname": target})


def hard_link(name: str, target: str) -> Member:
    return (name, "", {"type": tarfile.LNKTYPE, "linkname": target})


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


PACKS = {
    "": lambda tar: tar,
    "gzip": _gzip,
    "zstd": _zstd,
    "gzip in parts": lambda tar: _gzip(tar[:700]) + _gzip(tar[700:]),
    "zstd in parts": lambda tar: _zstd(tar[:700]) + _zstd(tar[700:]),
}


class Layout:
    """Files of an OCI layout, to be written as a folder or a tar."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, content: bytes) -> dict:
        self.files[f"blobs/sha256/{digest(content)[7:]}"] = content
        return {"digest": digest(content), "size": len(content)}

    def json(self, value: object) -> dict:
        return self.blob(json.dumps(value).encode())

    def image(self, layers: list[bytes], pack: str = "gzip", **config) -> dict:
        packed = PACKS[pack]
        architecture = config.pop("architecture", "amd64")
        configuration = {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "config": self.json(configuration),
            "layers": [self.blob(packed(tar)) for tar in layers],
        }
        media_type = "application/vnd.oci.image.manifest.v1+json"
        return {"mediaType": media_type, **self.json(manifest)}

    def index(self, *descriptors: dict) -> Layout:
        text = json.dumps({"schemaVersion": 2, "manifests": list(descriptors)})
        self.files["index.json"] = text.encode()
        return self

    def write_folder(self, path: Path) -> Path:
        for name, content in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path

    def write_plain(self, path: Path) -> Path:
        """As `skopeo copy … dir:` leaves it: no index, and nothing below anything."""
        (descriptor,) = json.loads(self.files["index.json"])["manifests"]
        path.mkdir()
        (path / "version").write_text("Directory Transport Version: 1.1\n")
        for name, content in self.files.items():
            digits = name.removeprefix("blobs/sha256/")
            is_manifest = descriptor["digest"] == f"sha256:{digits}"
            if digits != name:
                (path / ("manifest.json" if is_manifest else digits)).write_bytes(content)
        return path

    def write_tar(self, path: Path) -> Path:
        path.write_bytes(layer(*(file(name, content) for name, content in self.files.items())))
        return path


def docker_save(path: Path, layers: list[bytes], **config) -> Path:
    """A tar as `docker save` wrote them before it wrote OCI layouts."""
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"diff_ids": [digest(tar) for tar in layers]},
        }
    ).encode()
    name = f"{digest(configuration)[7:]}.json"
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    saved = [{"Config": name, "RepoTags": ["app:1"], "Layers": names}]
    members = [file(name, configuration), file("manifest.json", json.dumps(saved))]
    members += [file(*pair) for pair in zip(names, layers, strict=True)]
    path.write_bytes(layer(*members))
    return path
