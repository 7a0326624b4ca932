from __future__ import annotations

import msgspec

from sappers.provisioner.restore import Diagnosis, versions_to_try, why_hopeless

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
