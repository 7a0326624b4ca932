"""Images as people call, list and build them."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sappers.api.image_push import MemberShare, Pushed
from sappers.api.wire import HeldImage, Warmed
from sappers.assembly.images import LocalImages
from sappers.cli.deploy import deploy_app
from sappers.cli.image_build import stored_name
from sappers.cli.image_inspect import InspectedImage, image_lines
from sappers.cli.image_keep import older_images
from sappers.cli.image_list import ListedImage, images_table, local_images, with_cluster
from sappers.cli.image_names import cluster_image, local_digest, one_of_name
from sappers.cli.image_progress import ImageProgress, share_text
from sappers.cli.image_transfer import pushed_text, warmed_text
from sappers.cli.image_trust import one_key
from sappers.config import ControlHome
from sappers.errors import ApiError, ConfigError, ImageError, ImageUntrusted
from sappers.images.definition import ImageDefinition
from sappers.model.image import Blob, ClusterImage, ImageKey, Manifest, MicrovmBoot

HELLO, OLD, WEB = "ab" * 32, "abababab" + "0" * 56, "cd" * 32
NAMED = {"hello": HELLO, "web": WEB}


def held(name: str, digest: str, pushed_at: float = 1.0) -> HeldImage:
    return HeldImage(ClusterImage(name, digest, "microvm", 5 << 20, pushed_at), 5, 5)


def test_an_image_is_called_by_name_digest_or_the_beginning_of_one():
    assert local_digest(NAMED, "hello") == HELLO
    assert local_digest(NAMED, HELLO) == HELLO
    assert local_digest(NAMED, "cdcdcdcd") == WEB
    assert local_digest(NAMED, "0" * 64) == "0" * 64  # one without a name may be here


@pytest.mark.parametrize("text", ["nonesuch", "ababab", "ABABABAB", "0" * 63, ""])
def test_what_no_image_is_called(text):
    with pytest.raises(ImageError, match="no image is called") as raised:
        local_digest(NAMED, text)
    assert "hello, web" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("shop", "sappers-deploy image build shop"),
        ("hello-nanos", "sappers-deploy image build hello --kind nanos"),
        ("hello-web", "sappers-deploy image build hello-web"),
        ("deadbeef", "sappers-deploy image ls shows what there is"),
    ],
)
def test_what_is_not_here_says_how_it_comes_to_be(text, hint):
    with pytest.raises(ImageError) as raised:
        local_digest(NAMED, text)
    assert raised.value.hint == hint


def test_a_member_that_does_not_warm_an_image_is_named_once():
    assert warmed_text("m1", Warmed("a template was made")) == "m1: a template was made"
    assert warmed_text("m1", ApiError("m1: no room")) == "m1: no room"


def test_the_beginning_of_two_digests_is_refused():
    with pytest.raises(ImageError, match="several digests"):
        local_digest(NAMED | {"old": OLD}, "abababab")
    assert local_digest(NAMED | {"old": OLD}, "abababab00") == OLD


def test_of_several_with_one_name_the_cluster_means_the_newest():
    images = (held("hello", OLD, 1.0), held("hello", HELLO, 2.0), held("web", WEB))
    assert cluster_image(images, "hello").image.digest == HELLO
    assert cluster_image(images, OLD[:10]).image.digest == OLD
    assert one_of_name(images, "web").image.digest == WEB
    assert one_of_name(images, OLD).image.digest == OLD
    with pytest.raises(ImageError, match="2 images"):
        one_of_name(images, "hello")
    with pytest.raises(ImageError, match="the cluster has no image other; it has: hello, web"):
        cluster_image(images, "other")
    with pytest.raises(ImageError, match="the cluster has no image"):
        cluster_image(images, "0" * 64)
    assert [one.digest for one in older_images(images)] == [OLD]


def test_what_an_image_is_made_of_is_told_in_lines():
    files = [Blob(digit * 64, size << 20, (HELLO,) * size) for digit, size in (("1", 40), ("2", 9))]
    manifest = Manifest("hello", "x86_64", MicrovmBoot(*files), guest_port=8080, stateful=True)
    image = InspectedImage(HELLO, manifest.kind, manifest.size_bytes, (WEB,), manifest)
    told = {line.plain[:10].strip(): line.plain[10:] for line in image_lines(image)}
    assert told["digest"] == HELLO
    assert told["size"] == "49.0 MiB"
    assert told["port"] == "8080"
    assert told["initrd"] == f"{'2' * 64}, 9.0 MiB, 9 chunks"
    assert told["signed by"] == WEB


def test_programs_read_what_an_image_is_made_of(tmp_path, monkeypatch):
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    images = LocalImages(ControlHome(tmp_path / "home", tmp_path / "cache"))
    key = images.own_key(create=True)
    assert key is not None and images._signing_key is not None
    kernel, initrd = images.store.put([b"kernel"]), images.store.put([b"initrd"])
    manifest = Manifest("hello", "x86_64", MicrovmBoot(kernel, initrd), guest_port=8080)
    digest = images.store.put_manifest(manifest, images._signing_key)
    for name in ("hello", digest[:8]):
        done = CliRunner().invoke(deploy_app(["image"]), ["image", "inspect", name, "-o", "json"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert (told["digest"], told["kind"], told["size_bytes"]) == (digest, "microvm", 12)
        assert told["signed_by"] == [key.key]
        assert told["manifest"]["guest_port"] == 8080
        assert told["manifest"]["boot"]["kernel"]["digest"] == kernel.digest


def test_the_first_kind_has_the_plain_name():
    definition = ImageDefinition(kinds=("microvm", "nanos"))
    assert stored_name("hello", definition, None) == ("hello", "microvm")
    assert stored_name("hello", definition, "microvm") == ("hello", "microvm")
    assert stored_name("hello", definition, "nanos") == ("hello-nanos", "nanos")
    with pytest.raises(ImageError, match="cannot be built as appliance"):
        stored_name("hello", definition, "appliance")


def test_a_list_of_images_fits_80_columns_and_both_places():
    here = ListedImage("hello", HELLO, "microvm", 5 << 20, 128, 8080, here=True, whole=True)
    shares = {
        HELLO: (MemberShare("a", 5, 5), MemberShare("b", 2, 5)),
        WEB: (MemberShare("a", 5, 5), MemberShare("b", 5, 5)),
    }
    images = (held("hello", HELLO).image, held("appliance-of-somebody-else", WEB).image)
    listed = with_cluster([here], images, shares)
    assert [(one.name, one.here) for one in listed] == [
        ("appliance-of-somebody-else", False),
        ("hello", True),
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(images_table(listed, asked=True))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[-3:] == ["2", "of", "2"]
    assert lines[1].startswith("appliance-of-somebody-e… ")
    assert lines[2].split() == [
        "hello", HELLO[:12], "microvm", "5.0", "MiB", "128", "MiB", "8080", "whole", "1", "of", "2",
    ]  # fmt: skip


def test_piped_progress_is_one_line_a_step():
    out = io.StringIO()
    with ImageProgress(Console(file=out, width=200), "he\x1b[31mllo") as progress:
        progress.sending(5 << 20)
        progress.sent(5 << 20)
        lagging = MemberShare("b", 3, 5, "no room")
        progress.spread((MemberShare("a", 5, 5), lagging))
        progress.spread((MemberShare("a", 5, 5), lagging))
    assert "\x1b" not in out.getvalue()
    assert [line.partition(": ")[2] for line in out.getvalue().splitlines()] == [
        "sending 5.2 MB",
        "1 of 2 members have it whole; b: no room",
    ]


def test_a_push_says_what_it_sent():
    shares = (MemberShare("a", 5, 5),)
    pushed = Pushed("hello", HELLO, 5, 2, 1_500_000, shares)
    assert pushed_text(pushed, 1.25) == (
        f"hello {HELLO[:12]}: sent 2 of 5 chunks, 1.5 MB; 1 of 1 members have it whole; 1.2 s"
    )
    nothing = Pushed("hello", HELLO, 5, 0, 0, shares)
    assert "nothing to send" in pushed_text(nothing, 0.1)
    assert share_text(shares) == "1 of 1 members have it whole"


def test_a_key_is_called_by_its_beginning():
    keys = [ImageKey("ab" * 32, "me"), ImageKey("abababab" + "0" * 56, "you")]
    assert one_key(keys, "ab" * 32).owner == "me"
    assert one_key(keys, "abababab0").owner == "you"
    for text in ("abababab", "abab", "", "0" * 64):
        with pytest.raises(ConfigError) as raised:
            one_key(keys, text)
        assert ("too short" in raised.value.message) == (len(text) < 8)


def test_this_machine_trusts_itself_and_whom_it_was_told_to(tmp_path):
    mine, yours = (LocalImages(ControlHome(tmp_path / n, tmp_path / "cache")) for n in "ab")
    assert mine.trusted() == frozenset()
    assert mine.own_key() is None  # looking makes no key
    digests = {}
    for one in (mine, yours):
        key = one.own_key(create=True)
        assert key is not None and one.trusted() == {key.key}
        assert one._signing_key is not None
        boot = MicrovmBoot(one.store.put([b"kernel"]), one.store.put([b"initrd"]))
        manifest = Manifest("hello", "x86_64", boot)
        digests[one] = one.store.put_manifest(manifest, one._signing_key)
    signed = yours.store.signed(digests[yours])
    assert signed is not None
    with pytest.raises(ImageUntrusted):
        LocalImages(ControlHome(tmp_path / "c", tmp_path / "cache")).store.put_signed(signed)
    key = yours.own_key()
    assert key is not None
    mine.trust(key)
    again = LocalImages(ControlHome(tmp_path / "a", tmp_path / "cache"))
    assert again.trusted() == {key.key, *mine.trusted()}
    assert [one.name for one in local_images(again.store)] == ["hello"]
    assert all(one.whole for one in local_images(again.store))
    (tmp_path / "a" / "trusted-image-keys.json").write_text("{")
    with pytest.raises(ConfigError, match="trusted-image-keys"):
        again.trusted()
