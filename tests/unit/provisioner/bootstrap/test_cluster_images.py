"""Bootstrap's last step: what the cluster lacks of images and trust, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from sappers.errors import ImageError, MemberUnreachable
from sappers.model.image import ImageKey
from sappers.provisioner.bootstrap.cluster_images import plan_images, spread_images
from sappers.provisioner.bootstrap.plan import plan_cluster
from sappers.provisioner.bootstrap.recap import Outcome
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.inventory.inventory import load_inventory

KEY = ImageKey("a" * 64, "me@here")
WANTED = {"hello": "1" * 64, "healer": "2" * 64}


class Cluster:
    """Satisfies `ClusterImages`: keeps what it is given."""

    def __init__(self, *, keys: Sequence[ImageKey] = (), kept: Sequence[str] = ()) -> None:
        self.keys = set(keys)
        self.kept = set(kept)
        self.silent = False
        self.damaged = ""

    def own_key(self, *, create: bool) -> ImageKey | None:
        return KEY if create else None

    def wanted(self, names):
        return WANTED

    def is_trusted(self, hosts, key: ImageKey) -> bool:
        return key in self.keys

    def trust(self, hosts, key: ImageKey) -> None:
        self.keys.add(key)

    def lacking(self, hosts, digests: Sequence[str]) -> Sequence[str]:
        if self.silent:
            raise MemberUnreachable("nobody answers")
        return [digest for digest in digests if digest not in self.kept]

    def push(self, hosts, digest: str, note: Callable[[str], None]) -> None:
        if digest == self.damaged:
            raise ImageError("a chunk is damaged here")
        self.kept.add(digest)


@pytest.fixture
def hosts(tmp_path) -> list[HostRun]:
    path = tmp_path / "lab.ini"
    path.write_text("a ansible_host=10.0.0.1\nb ansible_host=10.0.0.2\n")
    inventory = load_inventory(path)
    plan = plan_cluster(inventory, str)
    return [
        HostRun(host, plan.member(host.name), check=False, note=lambda _text: None, running=True)
        for host in inventory.hosts
    ]


def spread(hosts, cluster, wanted=WANTED):
    return spread_images(hosts, cluster, wanted, lambda _text: None)


def test_a_new_cluster_gets_everything_and_the_second_time_nothing(hosts):
    cluster = Cluster(keys=[KEY])
    results, error = spread(hosts, cluster)
    assert error is None
    assert results["a"] == results["b"]
    assert results["a"].outcome is Outcome.CHANGED
    assert results["a"].changes == ("image hello", "image healer")
    results, error = spread(hosts, cluster)
    assert (results["a"].outcome, results["a"].changes, error) == (Outcome.OK, (), None)


def test_an_older_cluster_is_told_the_key(hosts):
    cluster = Cluster(kept=list(WANTED.values()))
    results, error = spread(hosts, cluster)
    assert (results["b"].changes, error) == ((f"image key {'a' * 12}",), None)
    assert cluster.keys == {KEY}


def test_without_images_there_is_nothing_to_do(hosts):
    results, error = spread(hosts, Cluster(keys=[KEY]), {})
    assert (results["a"].outcome, error) == (Outcome.SKIPPED, None)


def test_what_goes_wrong_is_told_with_what_went_well(hosts):
    cluster = Cluster(keys=[KEY])
    cluster.damaged = WANTED["healer"]
    results, error = spread(hosts, cluster)
    assert isinstance(error, ImageError)
    assert results["a"].outcome is Outcome.FAILED
    assert results["a"].changes == ("image hello",)


def test_check_mode_says_what_would_be_given(hosts):
    cluster = Cluster(kept=[WANTED["hello"]])
    planned = plan_images(hosts, cluster, WANTED)
    assert planned["a"].changes == ("image healer",)
    assert cluster.kept == {WANTED["hello"]}
    cluster.silent = True
    assert plan_images(hosts, cluster, WANTED)["a"].changes == ("image hello", "image healer")
    assert plan_images(hosts, cluster, {})["a"].outcome is Outcome.SKIPPED
