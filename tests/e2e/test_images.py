"""Images: sent once, spread by the members, kept whole, refused when nobody trusted signed them.

The images are noise: no guest boots from them. Each test finds the cluster whole and leaves it so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.api.image_calls import ImageCalls
from sappers.assembly.images import LocalImages
from sappers.config import ControlHome
from sappers.errors import ApiError
from sappers.lab.lab import Lab
from tests.e2e.conftest import Deploy
from tests.e2e.lab_cluster import LabCluster, no_traceback, until
from tests.e2e.noise_image import make_image, noise

pytestmark = pytest.mark.timeout(900)

STORE = "/var/lib/sappers/images"
SPREAD_SECONDS = 150
CHUNKS = 16


@pytest.fixture(autouse=True)
def whole(cluster: LabCluster) -> Iterator[None]:
    yield
    cluster.await_whole()


def pushed(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done
    (told,) = json.loads(done.stdout)
    return told


def await_spread(cluster: LabCluster, digest: str, chunks: int = CHUNKS) -> None:
    for host in cluster.hosts():
        until(
            lambda h=host: cluster.chunks_on(h, digest) == chunks, SPREAD_SECONDS, f"{host} has it"
        )


@pytest.fixture(scope="module")
def pieces() -> list[bytes]:
    return noise(CHUNKS)


@pytest.fixture(scope="module")
def static(cluster: LabCluster, deploy: Deploy, pieces: list[bytes]) -> str:
    """An image that every member has; its digest."""
    digest = make_image(cluster.images, "static", pieces)
    told = pushed(deploy("image", "push", "static", "-o", "json"))
    assert (told["digest"], told["chunks"], told["chunks_sent"]) == (digest, CHUNKS, CHUNKS)
    assert {one["name"] for one in told["members"]} == set(cluster.hosts())
    assert all(one["chunks"] == CHUNKS for one in told["members"]), told
    return digest


def test_an_image_is_sent_once_and_only_what_changed_later(
    cluster: LabCluster, deploy: Deploy, static: str, pieces: list[bytes]
):
    again = pushed(deploy("image", "push", static[:8], "-o", "json"))
    assert again["chunks_sent"] == 0
    changed = make_image(cluster.images, "static", [*pieces[:7], *noise(1), *pieces[8:]])
    told = pushed(deploy("image", "push", "static", "-o", "json"))
    assert (told["digest"], told["chunks_sent"]) == (changed, 1)
    listed = deploy("image", "ls", "--cluster", cluster.folder.name, "-o", "json")
    assert listed.returncode == 0, listed
    of_cluster = {one["digest"]: one for one in json.loads(listed.stdout)["images"]}
    assert of_cluster[changed]["here"]
    assert not of_cluster[static]["here"]  # its name has gone to the new one
    for digest in (static, changed):
        members = of_cluster[digest]["members"]
        assert {one["name"] for one in members} == set(cluster.hosts())
        assert all(one["chunks"] == one["of"] == CHUNKS for one in members)
    for host in cluster.hosts():  # what has just come is spared for a while
        cluster.run(host, f"touch -d '1 day ago' {STORE}/manifests/{static}")
    pruned = deploy("image", "prune", "--cluster", cluster.folder.name)
    assert pruned.returncode == 0, pruned
    assert f"removed static {static[:12]}" in pruned.stdout
    for host in cluster.hosts():
        until(
            lambda h=host: not cluster.run(h, f"ls {STORE}/manifests/{static} 2>/dev/null; true"),
            150,
            f"{host} forgets what the cluster keeps no more",
        )
        cluster.run(host, f"ls {STORE}/manifests/{changed}")


def test_members_need_nobody_to_get_what_they_lost(cluster: LabCluster, static: str):
    """One starts with an empty store, one has a damaged chunk: both get it from the others."""
    del static
    digest = cluster.images.store.named()["static"]
    manifest = cluster.images.store.manifest(digest)
    assert manifest is not None
    empty, damaged, *_ = cluster.hosts()
    cluster.run(empty, f"systemctl stop sappers && rm -rf {STORE} && systemctl start sappers")
    cluster.await_whole()
    await_spread(cluster, digest)

    chunk = manifest.chunks()[3]
    path = f"{STORE}/chunks/{chunk[:2]}/{chunk}"
    before = cluster.run(damaged, f"sha256sum < {path}")
    cluster.run(
        damaged,
        f"chmod u+w {path} && printf X | dd of={path} bs=1 seek=5000 conv=notrunc status=none",
    )
    assert cluster.run(damaged, f"sha256sum < {path}") != before
    with cluster.client(damaged) as client, pytest.raises(ApiError) as refused:
        client.call("GET", f"/v1/chunks/{chunk}")
    assert refused.value.status == 404  # it is noticed, and never given to anybody
    until(
        lambda: cluster.run(damaged, f"sha256sum < {path} 2>/dev/null; true") == before,
        SPREAD_SECONDS,
        "the chunk is fetched again",
    )
    await_spread(cluster, digest)


def test_a_push_that_is_killed_goes_on_where_it_was(
    cluster: LabCluster, home: ControlHome, deploy: Deploy, lab: Lab
):
    chunks = 48
    digest = make_image(cluster.images, "killed", noise(chunks))
    program = Path(sys.executable).with_name("sappers-deploy")
    # What this machine sends leaves through the bridge itself; what hosts exchange does not.
    device = lab.plan.bridge
    subprocess.run(
        ["tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", "40mbit", "burst", "128k",
         "latency", "100ms"],
        check=True,
    )  # fmt: skip
    try:
        push = subprocess.Popen(
            [program, "image", "push", "killed"],
            env=os.environ | {"SAPPERS_HOME": str(home.data), "SAPPERS_CACHE": str(home.cache)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            host = cluster.hosts()[0]
            until(lambda: cluster.chunks_on(host, digest) >= 2, 150, "the push has begun")
        finally:
            push.send_signal(signal.SIGKILL)
            push.wait()
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", device, "root"], check=True)
    told = pushed(deploy("image", "push", "killed", "-o", "json"))
    assert 0 < told["chunks_sent"] < chunks
    assert all(one["chunks"] == chunks for one in told["members"])
    removed = deploy("image", "rm", "killed", "--cluster", cluster.folder.name)
    assert removed.returncode == 0, removed


def test_a_full_disk_is_said_and_does_not_keep_the_others(cluster: LabCluster, deploy: Deploy):
    digest = make_image(cluster.images, "large", noise(CHUNKS))
    full = cluster.hosts()[-1]
    cluster.run(full, f"mount -t tmpfs -o size=4m,mode=700 full {STORE}")
    try:
        done = deploy("image", "push", "large", "--timeout", "8")
        assert done.returncode == 1, done
        assert f"{full} has " in done.stderr
        assert "no room" in done.stderr
        no_traceback(done.stderr)
        for host in cluster.hosts():
            if host != full:
                until(
                    lambda h=host: cluster.chunks_on(h, digest) == CHUNKS,
                    SPREAD_SECONDS,
                    f"{host} has it",
                )
    finally:
        cluster.run(full, f"umount {STORE}")
    cluster.run(full, "systemctl restart sappers")  # it had looked at the other store
    cluster.await_whole()
    again = pushed(deploy("image", "push", "large", "-o", "json"))
    assert again["chunks_sent"] == 0
    removed = deploy("image", "rm", "large", "--cluster", cluster.folder.name)
    assert removed.returncode == 0, removed


@pytest.fixture(scope="module")
def elsewhere(cluster: LabCluster, tmp_path_factory) -> Path:
    """Another control machine's home: it has the operator's certificate, and a key of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(cluster.home.data / "clusters", folder / "clusters")
    shutil.copy(cluster.home.data / "last-cluster", folder)
    return folder


def test_what_nobody_trusted_signed_is_refused(
    cluster: LabCluster, deploy: Deploy, elsewhere: Path
):
    theirs = LocalImages(ControlHome(elsewhere, cluster.home.cache))
    digest = make_image(theirs, "strange", noise(2))
    key = theirs.own_key()
    assert key is not None
    done = deploy("image", "push", "strange", at=elsewhere)
    assert done.returncode == 1, done
    assert "trusted key" in done.stderr
    assert "hint: " in done.stderr
    assert all(cluster.chunks_on(host, digest) == 0 for host in cluster.hosts())
    added = deploy("image", "trust", "add", key.key, "--owner", "elsewhere")
    assert added.returncode == 0, added
    assert pushed(deploy("image", "push", "strange", "-o", "json", at=elsewhere))
    listed = deploy("image", "trust", "ls", "-o", "json")
    assert "elsewhere" in {one["owner"] for one in json.loads(listed.stdout)["keys"]}
    with cluster.client() as client:
        ImageCalls(client).remove(digest)
    removed = deploy("image", "trust", "rm", key.key[:10])
    assert removed.returncode == 0, removed
    last = json.loads(deploy("image", "trust", "ls", "-o", "json").stdout)["keys"]
    assert len(last) == 1
    refused = deploy("image", "trust", "rm", last[0]["key"])
    assert refused.returncode == 1, refused
    assert "last one" in refused.stderr


def test_an_image_as_a_file_and_back_from_the_cluster(
    cluster: LabCluster, deploy: Deploy, elsewhere: Path, tmp_path: Path, static: str
):
    file = tmp_path / "static.image"
    done = deploy("image", "export", "static", str(file))
    assert done.returncode == 0, done
    digest = cluster.images.store.named()["static"]
    for arguments in (("import", str(file)), ("pull", "static")):
        refused = deploy("image", *arguments, at=elsewhere)
        assert refused.returncode == 1, (arguments, refused)
        assert "--trust" in refused.stderr
        no_traceback(refused.stderr)
    taken = deploy("image", "import", str(file), "--trust", at=elsewhere)
    assert (taken.returncode, taken.stdout.strip()) == (0, digest), taken
    gone = deploy("image", "rm", "static", at=elsewhere)
    freed = deploy("image", "prune", at=elsewhere)
    assert gone.returncode == freed.returncode == 0, (gone, freed)
    pulled = deploy("image", "pull", "static", "--trust", at=elsewhere)
    assert (pulled.returncode, pulled.stdout.strip()) == (0, digest), pulled
    whole = deploy("image", "verify", at=elsewhere)
    assert whole.returncode == 0, whole
    assert f"static {digest[:12]}: whole" in whole.stdout


def test_what_a_workload_names_is_kept(cluster: LabCluster, deploy: Deploy):
    with cluster.client() as client:
        client.put_workload("parked", cluster.wanted(count=0))
    refused = deploy("image", "rm", "hello", "--cluster", cluster.folder.name)
    assert refused.returncode == 1, refused
    assert "in use: parked" in refused.stderr
    with cluster.client() as client:
        client.delete_workload("parked")
