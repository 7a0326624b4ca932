from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from sappers.api.wire import Allocations
from sappers.cli.events import render_event, render_events
from sappers.cli.logs import choose_guests, last_lines
from sappers.cli.run import how_healthy, wanted_workload, warn_of_port, where_it_answers
from sappers.cli.session import checked_name, cluster_folder, endpoint_at, endpoints_of
from sappers.cli.stop import how_stopped
from sappers.cli.waiting import StillWaiting, wait_until
from sappers.config import ControlHome
from sappers.errors import ApiError, ConfigError
from sappers.model.allocation import AllocationStatus
from sappers.model.event import Event
from sappers.model.image import Blob, Manifest, MicrovmBoot
from sappers.model.view import MemberView
from sappers.provisioner.control.record import (
    ClusterRecord,
    RecordedMember,
    last_cluster_name,
    load_record,
    remember_last_cluster,
    save_record,
)
from tests.fake_member import make_allocation, make_member, make_view

HEALTHY, STARTING = AllocationStatus.HEALTHY, AllocationStatus.STARTING
MEMBER = MemberView(make_member("lab1", "10.0.0.1"), "leader", 42, 0, 0, "running")
MANIFEST = Manifest(
    "hello",
    "x86_64",
    MicrovmBoot(Blob("1" * 64, 1, ("3" * 64,)), Blob("2" * 64, 1, ("4" * 64,))),
    96,
    guest_port=8080,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5", "10.0.0.5", 11000),
        ("lab1:1234", "lab1", 1234),
        ("fd00::5", "fd00::5", 11000),
        ("[fd00::5]", "fd00::5", 11000),
        ("[fd00::5]:99", "fd00::5", 99),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    endpoint = endpoint_at(text)
    assert (endpoint.address, endpoint.port, endpoint.node_id) == (host, port, None)


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:b", "a:0", "a:65536", "[::1]x", "[::1]:"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--addr"):
        endpoint_at(text)


@pytest.mark.parametrize("name", ["", "A", "a_b", "a/b", "-a", "a" * 41, "a\n"])
def test_names_that_no_workload_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a workload's name"):
        checked_name(name)


def test_the_image_says_what_the_options_do_not() -> None:
    wanted = wanted_workload("0" * 64, MANIFEST, port=None, count=2, memory_mib=None)
    assert (wanted.memory_mib, wanted.guest_port, wanted.host_port) == (96, 8080, None)
    wanted = wanted_workload("0" * 64, MANIFEST, port="80:8081", count=2, memory_mib=256)
    assert (wanted.memory_mib, wanted.guest_port, wanted.host_port) == (256, 80, 8081)


@pytest.mark.parametrize("port", ["", "x", "0", "80:", ":80", "1:2:3", "70000", "-1"])
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(ConfigError, match="--port"):
        wanted_workload("0" * 64, MANIFEST, port=port, count=1, memory_mib=None)


def test_a_port_that_is_not_the_images_own_is_warned_of() -> None:
    def said(own: int | None, published: int | None) -> str:
        out = io.StringIO()
        manifest = msgspec.structs.replace(MANIFEST, guest_port=own)
        warn_of_port(Console(file=out, width=60), manifest, published, "--port {}:28100")
        return out.getvalue()

    for own, published in ((8080, 8080), (None, 28100), (8080, None), (None, None)):
        assert said(own, published) == ""
    assert said(8080, 28100) == (
        "image hello says that it listens on port 8080; unless it does on 28100 as well, nothing "
        "answers there: --port 8080:28100\n"
    )


def test_a_service_and_links_are_named_like_workloads() -> None:
    wanted = wanted_workload(
        "0" * 64, MANIFEST, port=None, count=1, memory_mib=None, service="shop", links=["db", "db"]
    )
    workload = wanted.named("web")
    assert (workload.service_name, workload.links) == ("shop", ("db",))
    with pytest.raises(ConfigError, match="'No' cannot be a service's name"):
        wanted_workload("0" * 64, MANIFEST, port=None, count=1, memory_mib=None, links=["db", "No"])


def test_healthy_means_healthy_copies_of_this_very_revision() -> None:
    old = make_allocation("web", "lab1", status=HEALTHY, revision=1)
    new = make_allocation(
        "web", "lab1", id="web-2", revision=2, status=STARTING, reason="launched", host_port=8080
    )
    view = make_view((MEMBER,), allocations=(old, new))
    assert how_healthy(view, "web", 2, 1) == (
        False,
        "0 of 1 healthy; web-2 on lab1 starting (launched)",
    )
    assert where_it_answers(view, "web", 2) == []
    healthy = msgspec.structs.replace(new, status=HEALTHY)
    view = make_view((MEMBER,), allocations=(old, healthy))
    assert how_healthy(view, "web", 2, 1) == (True, "1 of 1 healthy")
    assert where_it_answers(view, "web", 2) == ["http://10.0.0.1:8080"]
    without_port = msgspec.structs.replace(healthy, host_port=None)
    view = make_view((MEMBER,), allocations=(without_port,))
    assert where_it_answers(view, "web", 2) == ["web-2 on lab1"]


def test_copies_that_are_about_to_go_are_waited_for() -> None:
    both = tuple(make_allocation("web", "lab1", id=f"web-{n}", status=HEALTHY) for n in (1, 2))
    view = make_view((MEMBER,), allocations=both)
    assert how_healthy(view, "web", both[0].revision, 2)[0]
    assert not how_healthy(view, "web", both[0].revision, 1)[0]
    rest = (both[0], msgspec.structs.replace(both[1], wanted=False))
    view = make_view((MEMBER,), allocations=rest)
    assert how_healthy(view, "web", both[0].revision, 1)[0]


def test_what_keeps_a_copy_from_being_placed_is_said() -> None:
    said = "0 of 1 copies of web run, no room for more: …"
    assert how_healthy(make_view((MEMBER,), attention=(said,)), "web", 1, 1)[1].endswith(said)


def test_progress_tells_the_newest_failure_alone() -> None:
    failed = tuple(
        make_allocation(
            "web", "lab1", id=f"web-{at}", status=AllocationStatus.FAILED, changed_at=float(at)
        )
        for at in (1, 3, 2)
    )
    view = make_view((MEMBER,), allocations=failed)
    assert how_healthy(view, "web", 1, 1)[1] == "0 of 1 healthy; web-3 on lab1 failed"


def test_stopped_means_stopped_as_of_the_write() -> None:
    running = make_allocation("web", "lab1", wanted=False, status=HEALTHY)
    assert how_stopped(Allocations(9, (running,)), "web", 9) == (False, "stopping web-0a1b2c3d")
    ended = msgspec.structs.replace(running, status=AllocationStatus.STOPPED)
    assert how_stopped(Allocations(9, (ended,)), "web", 9)[0]
    assert not how_stopped(Allocations(8, ()), "web", 9)[0]  # a replica that lags knows nothing


def test_logs_of_an_allocation_of_a_workload_and_of_one_that_ended() -> None:
    first = make_allocation(
        "web", "lab1", id="web-1", status=AllocationStatus.FAILED, changed_at=1.0
    )
    second = make_allocation(
        "web", "lab1", id="web-2", status=AllocationStatus.LOST, changed_at=2.0
    )
    living = make_allocation("web", "lab1", id="web-3")
    assert choose_guests((first, second, living), "web-1") == (first,)
    assert choose_guests((first, second, living), "web") == (living,)
    assert choose_guests((first, second), "web") == (second,)
    with pytest.raises(ApiError, match="no workload or allocation api"):
        choose_guests((first,), "api")
    assert last_lines("a\nb\nc", 2) == "b\nc\n"
    assert last_lines("", 2) == ""


def test_waiting_ends_with_how_far_it_was() -> None:
    console = Console(quiet=True)
    with pytest.raises(StillWaiting, match="web: not within 0 s: 0 of 1") as caught:
        wait_until(
            lambda: (False, "0 of 1"), what="web", timeout_seconds=0, hint="h", console=console
        )
    assert caught.value.hint == "h"
    answers = iter([ApiError("gone"), (True, "")])

    def look() -> tuple[bool, str]:
        answer = next(answers)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    wait_until(look, what="web", timeout_seconds=5, hint="", console=console)


def test_an_event_is_one_line() -> None:
    event = Event(7, 1, 1.0, "member.dead", "n1", "n1 is dead:\x1b[2J gone", "n2", "")
    line = render_event(event).plain
    assert "     7 member.dead" in line
    assert "\x1b" not in line


def test_on_a_terminal_a_long_event_goes_on_below_itself() -> None:
    text = "hello-0a1b2c3d placed on lab1: 23593 MiB free, 0 copies there"
    event = Event(7, 1, 1.0, "allocation.placed", "n1", text, "n2", "")
    out = io.StringIO()
    Console(file=out, width=80).print(render_events([event]))
    first, second = out.getvalue().splitlines()
    assert " 7 allocation.placed" in first
    assert second.startswith(" " * 30)


def test_a_record_is_kept_whole_and_private(tmp_path: Path) -> None:
    home = ControlHome(tmp_path / "home", tmp_path / "cache")
    with pytest.raises(ConfigError, match="no cluster was bootstrapped"):
        last_cluster_name(home)
    record = ClusterRecord(name="lab", members=(RecordedMember("lab1", "n1", "10.0.0.1"),))
    folder = home.cluster("lab")
    save_record(folder, record)
    remember_last_cluster(home, "lab")
    assert load_record(folder) == record
    assert last_cluster_name(home) == "lab"
    assert [path.name for path in folder.iterdir()] == ["cluster.json"]
    assert (folder / "cluster.json").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    assert endpoints_of(record)[0].node_id == "n1"
    (folder / "cluster.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cluster\.json") as caught:
        load_record(folder)
    assert caught.value.hint


def test_a_folder_of_keys_that_is_none_is_no_unknown_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    assert cluster_folder("./keys") == Path("keys")
    for name, message, hint in (
        ("./nope", "./nope is no folder", "ca.pem"),
        ("keys", "knows no cluster keys", "--cluster ./keys"),
        ("nope", "knows no cluster nope", str(tmp_path / "home" / "clusters")),
    ):
        with pytest.raises(ConfigError, match=message) as refused:
            cluster_folder(name)
        assert hint in (refused.value.hint or "")
