"""The image commands that need no cluster, run one after the other on real stores."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sappers.assembly.images import LocalImages
from sappers.cli.deploy import deploy_app
from sappers.config import ControlHome
from sappers.errors import ImageError
from sappers.images.build_records import BuildRecords
from sappers.images.builder import Report
from sappers.images.definition import ImageDefinition
from sappers.model.image import Manifest, MicrovmBoot
from sappers.security.signing import SigningKey
from tests.image_stores import damage, files

Deploy = Callable[..., Result]
DEFINITION = 'kinds = ["microvm"]\nport = 80\n[application]\nbinary = "server"\n'
MAIN = "from sappers.cli.deploy import main; main()"


class SmallBuilder:
    """Builds as the others do, of a file alone: steps, records, a signed manifest."""

    def __init__(self, images: LocalImages, cache: Path, key: SigningKey) -> None:
        self._store = images.store
        self._records = BuildRecords(cache, images.store, key)

    def build(
        self, name: str, definition: ImageDefinition, folder: Path, report: Report
    ) -> tuple[str, bool]:
        report("reading \x1b[31mserver")
        content = (folder / "server").read_bytes()
        inputs = hashlib.sha256(content).hexdigest()
        if (known := self._records.find(inputs)) is not None:
            return known, False
        report("storing")
        report("storing")
        with self._store.holding():
            boot = MicrovmBoot(self._store.put([content]), self._store.put([b"initrd"]))
            manifest = Manifest(name, "x86_64", boot, guest_port=definition.port)
            return self._records.keep(inputs, manifest), True


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deploy:
    """Runs `sappers-deploy image …` with a home in `tmp_path`, or in the one that is named."""

    def builder(images: LocalImages, kind: str) -> SmallBuilder:
        assert kind == "microvm"
        images.own_key(create=True)
        assert images._signing_key is not None
        return SmallBuilder(images, tmp_path / "cache", images._signing_key)

    def run(*words: str, home: str = "home") -> Result:
        monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / home))
        return CliRunner().invoke(deploy_app(["image"]), ["image", *words])

    monkeypatch.setattr(LocalImages, "builder", builder)
    return run


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    for name in ("web", "other"):
        folder = tmp_path / "definitions" / name
        folder.mkdir(parents=True)
        (folder / "image.toml").write_text(DEFINITION)
        (folder / "server").write_bytes(os.urandom(1000))
    return tmp_path / "definitions"


def built(deploy: Deploy, definitions: Path, name: str = "web") -> str:
    done = deploy("build", name, "--definitions", str(definitions))
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_a_build_tells_its_steps_and_prints_the_digest(deploy: Deploy, definitions: Path) -> None:
    first = deploy("build", "web", "--definitions", str(definitions))
    again = deploy("build", "web", "--definitions", str(definitions))

    digest = first.stdout.strip()
    assert len(digest) == 64 and again.stdout.strip() == digest
    steps = first.stderr.splitlines()
    assert steps[:-1] == ["web: reading \ufffd[31mserver", "web: storing"]
    assert steps[-1].startswith(f"web built {digest[:12]}, 0.0 MiB, ")
    assert again.stderr.splitlines()[-1].startswith(f"web is up to date: {digest[:12]}, ")


def test_a_mistake_in_a_definition_has_its_file_and_line(definitions: Path) -> None:
    (definitions / "web" / "image.toml").write_text(DEFINITION.replace("80", '"eighty"'))
    command = [sys.executable, "-c", MAIN, "image", "build", "web", "--definitions"]

    done = subprocess.run([*command, str(definitions)], capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {definitions}/web/image.toml:2:")
    assert "port" in done.stderr and "Traceback" not in done.stderr


def test_what_is_damaged_is_found_and_what_is_whole_is_said_too(
    deploy: Deploy, definitions: Path, tmp_path: Path
) -> None:
    web, other = (built(deploy, definitions, name) for name in ("web", "other"))
    assert deploy("verify").stdout == f"other {other[:12]}: whole\nweb {web[:12]}: whole\n"
    store = LocalImages(ControlHome(tmp_path / "home", tmp_path / "cache")).store
    manifest = store.manifest(web)
    assert manifest is not None
    chunk = manifest.chunks()[0]
    damage(tmp_path / "home" / "images" / "chunks" / chunk[:2] / chunk, at=20)

    done = deploy("verify")

    assert isinstance(done.exception, ImageError)
    assert done.exception.message == "1 of 2 images are not whole"
    assert "image build web" in str(done.exception.hint)
    assert f"other {other[:12]}: whole" in done.stdout
    assert f"web {web[:12]}: " in done.stdout
    listed = {
        one["name"]: one["whole"] for one in json.loads(deploy("ls", "-o", "json").stdout)["images"]
    }
    assert listed == {"web": False, "other": True}
    assert built(deploy, definitions) == web  # what is damaged is built again
    assert deploy("verify", "web").exit_code == 0


def test_what_is_forgotten_is_freed_and_nothing_else(
    deploy: Deploy, definitions: Path, tmp_path: Path
) -> None:
    _, other = (built(deploy, definitions, name) for name in ("web", "other"))
    assert deploy("prune").stdout == "freed 0.0 MB in 0 files\n"

    assert "web is forgotten" in deploy("rm", "web").stderr
    dry = deploy("prune", "--dry-run").stdout
    kept = files(tmp_path / "home" / "images")
    assert deploy("prune").stdout == dry.replace("would free", "freed")

    assert len(kept - files(tmp_path / "home" / "images")) == int(dry.split()[-2]) > 0
    assert deploy("verify").stdout == f"other {other[:12]}: whole\n"
    gone = deploy("inspect", "web")
    assert isinstance(gone.exception, ImageError)
    assert "no image is called web" in gone.exception.message


def test_an_image_travels_as_one_file_to_who_trusts_its_signer(
    deploy: Deploy, definitions: Path, tmp_path: Path
) -> None:
    digest, file = built(deploy, definitions), str(tmp_path / "web.image")
    assert digest[:12] in deploy("export", "web", file).stderr

    refused = deploy("import", file, home="elsewhere")
    assert isinstance(refused.exception, ImageError)
    assert "--trust" in str(refused.exception.hint)
    taken = deploy("import", file, "--trust", home="elsewhere")

    assert taken.stdout.strip() == digest
    assert "is here, and whole" in taken.stderr
    assert deploy("verify", home="elsewhere").stdout == f"web {digest[:12]}: whole\n"
