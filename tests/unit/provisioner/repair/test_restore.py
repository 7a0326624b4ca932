from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import msgspec

from sappers.provisioner.repair.restore import Diagnosis, versions_to_try, why_hopeless
from sappers.provisioner.repair.restore_by_hand import WHO_RUNS

OLD, NEW = "0123456789ab-py311", "ba9876543210-py311"
WELL = Diagnosis(
    systemd=True,
    unit={"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "Result": "signal"},
    current=NEW,
    versions=(NEW, OLD),
    free_mib={"/opt/sappers": 900, "/var/lib/sappers": 30},
    last_words="killed",
)


def but(**changes: object) -> Diagnosis:
    return msgspec.structs.replace(WELL, **changes)


def test_a_diagnosis_says_what_a_person_wants_to_know() -> None:
    assert WELL.describe() == (
        "sappers.service is failed (failed), signal; version ba9876543210-py311; "
        "900 MiB free at /opt/sappers, 30 MiB free at /var/lib/sappers; its last words: killed"
    )
    assert WELL.full == ("/var/lib/sappers",)
    assert "/opt/sappers/current is broken" in but(current="").describe()


def test_the_version_in_use_comes_first_and_a_broken_one_never() -> None:
    assert versions_to_try(WELL) == (NEW, OLD)
    assert versions_to_try(but(current=OLD)) == (OLD, NEW)
    assert versions_to_try(but(current="", versions=(OLD,))) == (OLD,)
    assert versions_to_try(but(versions=(OLD,))) == (OLD,)


def test_what_only_a_person_can_mend_says_so() -> None:
    assert why_hopeless(WELL) == ""
    disabled = {"LoadState": "loaded", "UnitFileState": "disabled"}
    assert "systemctl enable --now" in why_hopeless(but(unit=disabled))
    assert "systemctl unmask" in why_hopeless(but(unit={"LoadState": "masked"}))
    assert "bootstrap" in why_hopeless(but(unit={"LoadState": "not-found"}))
    assert "bootstrap" in why_hopeless(but(versions=()))
    assert "systemd" in why_hopeless(but(systemd=False))


def test_a_record_is_believed_only_while_its_lock_is_held(tmp_path: Path) -> None:
    lock = tmp_path / "agent.lock"
    lock.write_text('{"pid": 7}')

    def said(**environment: str) -> str:
        command = ["/bin/sh", "-c", WHO_RUNS, str(lock)]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    broken = tmp_path / "flock"
    broken.write_text("#!/bin/sh\nexit 66\n")
    broken.chmod(0o755)
    assert said() == ""
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert said() == '{"pid": 7}'
        assert said(PATH=f"{tmp_path}:{os.environ['PATH']}") == ""
        assert said(PATH="/nonexistent") == ""
