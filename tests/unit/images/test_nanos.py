"""What can be a Nanos unikernel, and what its guest is told."""

from __future__ import annotations

import msgspec
import pytest

from sappers.errors import ImageError
from sappers.images.application import Filled
from sappers.images.definition import ApplicationDefinition, HealthDefinition, ImageDefinition
from sappers.images.nanos import guest_settings, package_manifest, refuse_what_nanos_cannot_run
from sappers.sidecar.settings import load_image_settings


def definition(**application: object) -> ImageDefinition:
    return ImageDefinition(
        kinds=("nanos",),
        application=ApplicationDefinition(**application),  # type: ignore[arg-type]
        port=8080,
        health=HealthDefinition(check="http", path="/health"),
        environment={"A": "b"},
    )


@pytest.mark.parametrize(
    ("application", "why"),
    [
        ({"binary": "server"}, "binary"),
        ({"command": ("/usr/sbin/nginx",), "packages": ("nginx",)}, "command"),
        ({"container": "web.tar"}, "container"),
        ({"module": "m", "packages": ("libxml2",)}, "libxml2"),
    ],
)
def test_what_cannot_share_the_sidecars_process_is_refused(application, why):
    with pytest.raises(ImageError, match=rf"web cannot be a Nanos unikernel.*{why}") as caught:
        refuse_what_nanos_cannot_run("web", definition(**application))
    assert caught.value.hint is not None
    assert "image build web --kind microvm" in caught.value.hint


@pytest.mark.parametrize("application", [{"module": "m"}, {"script": "s.py"}])
def test_modules_and_scripts_are_taken(application):
    refuse_what_nanos_cannot_run("web", definition(**application))


def test_the_guest_reads_what_the_builder_wrote(tmp_path):
    path = tmp_path / "guest.json"
    launch = {"kind": "script", "arguments": ("-v",)}
    filled = Filled([], [], "/app/run.pyc", launch, preload=("json",), port=8080)
    path.write_bytes(msgspec.json.encode(guest_settings(definition(script="run.py"), filled)))
    settings = load_image_settings(str(path))
    assert (settings.application, settings.in_process) == ("/app/run.pyc", False)
    assert (settings.launch.kind, settings.launch.arguments) == ("script", ("-v",))
    assert (settings.preload, settings.check.port) == (("json",), 8080)
    assert settings.environment == {"A": "b"}


def test_the_program_is_the_guests_python_which_finds_no_more_than_its_own():
    program = package_manifest()
    assert program["Args"][0] == program["Program"]
    assert "-IS" in program["Args"]
