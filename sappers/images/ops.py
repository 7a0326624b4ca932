"""The `ops` command line, which puts a Nanos kernel and a folder of files onto a disk.

It is run offline, in a home of its own: it would otherwise ask the network for the newest release,
and leave images in the user's home.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sappers.durable import keep_durably
from sappers.errors import ImageError
from sappers.images.programs import TOO_LATE, run_guarded

MODULE, VERSION = "github.com/nanovms/ops", "v0.0.0-20260513031207-bb2d9ce40863"
_PACKAGE = "guest"
# Any release: kernel and boot loader are named in the configuration.
_RELEASE = "0.0.1"
_NO_NETWORK = "http://127.0.0.1:9"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RUN_SECONDS, _INSTALL_SECONDS, _END_SECONDS = 300.0, 1800.0, 5.0


class NanosKernel(msgspec.Struct, frozen=True):
    """The files of a Nanos release that an image needs.

    Attributes:
        kernel: `kernel.img`.
        boot: `boot.img`, the boot loader.
        klibs: Folder of loadable parts of the kernel; may be missing, for none is used.
    """

    kernel: Path
    boot: Path
    klibs: Path


def find_kernel(environment: Mapping[str, str]) -> NanosKernel:
    """The kernel in `NANOS_DIR`, else the release that `ops` has in `OPS_HOME` (else in `HOME`).

    Raises:
        ImageError: There is none; says what to set.
    """
    if named := environment.get("NANOS_DIR"):
        folder = Path(named)
        where = f"NANOS_DIR ({folder})"
    else:
        home = Path(environment.get("OPS_HOME") or environment.get("HOME") or "/root") / ".ops"
        folder = home / _release(home)
        where = str(folder)
    found = NanosKernel(folder / "kernel.img", folder / "boot.img", folder / "klibs")
    if missing := [path.name for path in (found.kernel, found.boot) if not path.is_file()]:
        raise ImageError(
            f"no Nanos kernel: {where} lacks {' and '.join(missing)}",
            hint="run `ops update` where there is a network, and set OPS_HOME to the folder that "
            "holds its .ops; or set NANOS_DIR to a folder with kernel.img, boot.img and klibs/",
        )
    return found


def _release(home: Path) -> str:
    """The release that `ops` uses by default, a folder in its home."""
    try:
        return (home / "latest.txt").read_text().strip() or "latest"
    except OSError:
        return "latest"


def find_ops(environment: Mapping[str, str], tools: Path, report: Callable[[str], None]) -> Path:
    """`ops` of PATH, else the one in `tools`, where Go can bring it.

    Raises:
        ImageError: There is neither `ops` nor a Go that gets it.
    """
    path = environment.get("PATH", os.defpath)
    if found := shutil.which("ops", path=path):
        return Path(found)
    kept = tools / f"ops-{VERSION}"
    if kept.exists():
        return kept
    go = shutil.which("go", path=path)
    if go is None:
        raise ImageError(
            "no `ops`, which builds Nanos images, and no Go to bring it",
            hint="put `ops` onto PATH, or install Go and repeat",
        )
    report("bringing ops with Go")
    return _install(Path(go), environment, kept)


def _install(go: Path, environment: Mapping[str, str], target: Path) -> Path:
    """Have Go build it, with all its caches in a scratch folder."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".go-") as work:
        own = {"GOPATH": f"{work}/path", "GOCACHE": f"{work}/cache", "GOBIN": f"{work}/bin"}
        # Read-only folders, Go's habit, could not be removed with the scratch folder.
        own |= {"GOFLAGS": "-modcacherw", "CGO_ENABLED": "0", "GOMODCACHE": f"{work}/modules"}
        _run(
            [str(go), "install", "-tags", "onlyprovider", f"{MODULE}@{VERSION}"],
            {**environment, **own},
            Path(work),
            _INSTALL_SECONDS,
            "Go cannot bring ops",
            hint="put `ops` onto PATH; where Go reaches no module proxy it must come another way",
        )
        keep_durably(Path(work) / "bin" / "ops", target)
    return target


def create_disk(ops: Path, kernel: NanosKernel, package: Mapping[str, Any], root: Path) -> Path:
    """Have `ops` make a disk of `root/.ops`' package; where it is.

    Args:
        ops: The program.
        kernel: What the guest boots.
        package: Its program: `Program`, `Args`, `Env`, as ops' package manifests have them.
        root: `ops`' home for this one run, made by `prepare_home`.

    Raises:
        ImageError: It fails; carries what it said.
    """
    folder = files_folder(root).parent
    (folder / "package.manifest").write_bytes(msgspec.json.encode({"Version": "1", **package}))
    (root / "config.json").write_bytes(msgspec.json.encode(configuration(kernel)))
    command = [str(ops), "image", "create", "--package", _PACKAGE, "--local"]
    command += ["--disable-args-copy", "--config", str(root / "config.json"), "-i", _PACKAGE]
    environment = {
        "HOME": str(root),
        "OPS_HOME": str(root),
        "TMPDIR": str(root),
        "PATH": os.defpath,
        **{f"{scheme}_PROXY": _NO_NETWORK for scheme in ("HTTP", "HTTPS")},
    }
    said = _run(command, environment, root, _RUN_SECONDS, "ops cannot make the image")
    disk = root / ".ops" / "images" / _PACKAGE
    if not disk.exists():
        raise ImageError(f"ops made no image: {said[-500:] or 'it said nothing'}")
    return disk


def configuration(kernel: NanosKernel) -> dict[str, Any]:
    """What `ops` is told beside the package: kernel, network, what to do at the end.

    The address is the one that QEMU's user-mode network gives out; asking for it takes time. With
    `debug_exit` the exit code of the program becomes one of QEMU's.
    """
    return {
        "Kernel": str(kernel.kernel),
        "Boot": str(kernel.boot),
        "KlibDir": str(kernel.klibs),
        "NameServers": ["10.0.2.3"],
        "Debugflags": ["debug_exit"],
        "RunConfig": {
            "IPAddress": "10.0.2.15",
            "NetMask": "255.255.255.0",
            "Gateway": "10.0.2.2",
        },
    }


def prepare_home(root: Path) -> None:
    """Make `root` a home in which `ops` finds all it would download."""
    files_folder(root).mkdir(parents=True)
    (root / ".ops" / "latest.txt").write_text(_RELEASE)
    with tarfile.open(root / ".ops" / "common.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty"), io.BytesIO())


def files_folder(root: Path) -> Path:
    """The folder in `ops`' home whose files become the guest's."""
    return root / ".ops" / "local_packages" / "amd64" / _PACKAGE / "sysroot"


def _run(
    command: list[str],
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
    failure: str,
    *,
    hint: str | None = None,
) -> str:
    try:
        code, said = run_guarded(
            command,
            folder=folder,
            environment=environment,
            scratch=folder,
            limit_seconds=seconds,
            grace_seconds=_END_SECONDS,
        )
    except OSError as error:
        raise ImageError(f"{failure}: {error.strerror or error}", hint=hint) from error
    said = _COLOURS.sub("", said).strip()
    if code == TOO_LATE:
        raise ImageError(f"{failure}: no end after {seconds:g} s", hint=hint)
    if code != 0:
        raise ImageError(f"{failure}: {said[-1000:] or 'no output'}", hint=hint)
    return said
