"""What is asked of systemd and how its answers are read; real systemd is tried on the lab."""

from __future__ import annotations

import pytest

from sappers.ports import UnitSpec, UnitStatus
from sappers.supervision.systemd import read_properties, run_command


def show(**values: str) -> str:
    base = {
        "Id": "sappers-guest-a.service",
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "MainPID": "42",
        "ExecMainCode": "0",
        "ExecMainStatus": "0",
        "ExecMainStartTimestampMonotonic": "12500000",
    }
    return "\n".join(f"{key}={value}" for key, value in (base | values).items())


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (show(), UnitStatus("sappers-guest-a", running=True, started_at=12.5, pid=42)),
        (
            show(SubState="exited", MainPID="0", ExecMainCode="1"),
            UnitStatus("sappers-guest-a", running=False, exit_code=0, started_at=12.5),
        ),
        (
            show(
                ActiveState="failed",
                SubState="failed",
                ExecMainCode="1",
                ExecMainStatus="3",
                MainPID="0",
            ),
            UnitStatus("sappers-guest-a", running=False, exit_code=3, started_at=12.5),
        ),
        (
            show(
                ActiveState="failed",
                SubState="failed",
                ExecMainCode="2",
                ExecMainStatus="9",
                MainPID="0",
            ),
            UnitStatus("sappers-guest-a", running=False, exit_code=137, started_at=12.5),
        ),
        (show(LoadState="not-found", ActiveState="inactive", SubState="dead"), None),
    ],
)
def test_answers(text: str, status: UnitStatus | None) -> None:
    assert read_properties(text) == status


def test_the_unit_is_limited_never_restarted_and_gets_its_words_unchanged() -> None:
    command = run_command(
        UnitSpec("sappers-guest-a", ("/bin/x", "$HOME", "a b"), "/var/lib/x", memory_max_mib=300)
    )
    assert "--unit=sappers-guest-a.service" in command
    assert "--property=MemoryMax=300M" in command
    assert "--property=Restart=no" in command
    assert "--property=WorkingDirectory=/var/lib/x" in command
    assert command[command.index("--") + 1 :] == ("/bin/x", "$$HOME", "a b")


def test_a_process_is_alone_in_its_unit() -> None:
    command = run_command(UnitSpec("sappers-guest-a", ("/bin/true",), "/var/lib/a/run"))
    for line in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ReadWritePaths=/var/lib/a/run",
        "ProtectProc=invisible",
        "ReadOnlyPaths=/proc /sys",
        "TemporaryFileSystem=/run:ro",
        "DevicePolicy=closed",
        "SystemCallFilter=@system-service seccomp",
        "LimitFSIZE=256M",
    ):
        assert f"--property={line}" in command


def test_a_unit_may_be_another_user_who_sees_its_folder_alone() -> None:
    command = run_command(
        UnitSpec(
            "sappers-hub",
            ("/bin/x", "-c", "$y"),
            "/var/lib/a/hub",
            user_id=4711,
            writes="/var/lib/a/hub/data",
            alone_in="/var/lib/a",
        )
    )
    for line in (
        "TemporaryFileSystem=/run:ro /var/lib/a:ro",
        "BindPaths=/var/lib/a/hub/data",
        "ReadWritePaths=/var/lib/a/hub/data",
    ):
        assert f"--property={line}" in command
    (seen,) = (one for one in command if "BindReadOnlyPaths=" in one)
    assert seen.endswith(" /var/lib/a/hub")
    words = command[command.index("--") + 1 :]
    assert words[:3] == ("/usr/bin/setpriv", "--reuid=4711", "--regid=4711")
    assert "--bounding-set=-all" in words
    assert words[words.index("--") + 1 :] == ("/bin/x", "-c", "$$y")


def test_only_a_unit_that_was_given_a_device_may_open_one() -> None:
    def allowed(**given: str) -> list[str]:
        command = run_command(UnitSpec("a", ("/bin/true",), "/", **given))
        return [one for one in command if one.startswith("--property=DeviceAllow")]

    assert allowed() == []
    assert allowed(device="/dev/kvm") == ["--property=DeviceAllow=/dev/kvm rw"]


def test_root_prepares_a_unit_and_cleans_up_after_it() -> None:
    commands = {"prepare": ("/bin/a", "x { 1 . 2 }"), "clean_up": ("/bin/b", 'say "no" \\')}
    command = run_command(UnitSpec("a", ("/bin/true",), "/", **commands))
    assert '--property=ExecStartPre=+"/bin/a" "x { 1 . 2 }"' in command
    assert '--property=ExecStopPost=+"/bin/b" "say \\"no\\" \\\\"' in command


def test_a_unit_has_no_power_that_it_was_not_given() -> None:
    def powers(*more: str) -> set[str]:
        command = run_command(UnitSpec("a", ("/bin/true",), "/", capabilities=more))
        (line,) = (one for one in command if "CapabilityBoundingSet=" in one)
        return set(line.partition("CapabilityBoundingSet=")[2].split())

    assert "CAP_KILL" not in powers()
    assert powers("CAP_KILL") == powers() | {"CAP_KILL"}
