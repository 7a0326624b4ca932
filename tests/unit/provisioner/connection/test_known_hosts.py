from __future__ import annotations

import base64
from pathlib import Path

import pytest

from sappers.provisioner.connection.known_hosts import (
    Verdict,
    judge,
    keys_for,
    lookup_name,
    remember,
)

KEY, OTHER = b"one key", b"another key"
ENCODED = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (f"lab1 ssh-ed25519 {ENCODED} comment", Verdict.KNOWN),
        (f"LAB1,10.0.0.1 ssh-ed25519 {ENCODED}", Verdict.KNOWN),
        (f"lab* ssh-ed25519 {ENCODED}", Verdict.KNOWN),
        (f"lab*,!lab1 ssh-ed25519 {ENCODED}", Verdict.UNKNOWN),
        (f"lab2 ssh-ed25519 {ENCODED}", Verdict.UNKNOWN),
        (f"[lab1]:22 ssh-ed25519 {ENCODED}", Verdict.UNKNOWN),
        (f"# lab1 ssh-ed25519 {ENCODED}", Verdict.UNKNOWN),
        (f"@revoked lab1 ssh-ed25519 {ENCODED}", Verdict.REVOKED),
        (f"@cert-authority lab1 ssh-ed25519 {ENCODED}", Verdict.UNKNOWN),
        ("lab1 ssh-ed25519 b3RoZXI=", Verdict.CHANGED),
        ("lab1 ssh-rsa b3RoZXI=", Verdict.OTHER_KIND),
        ("@revoked lab1 ssh-rsa b3RoZXI=", Verdict.UNKNOWN),
        ("@revoked lab1 ssh-ed25519 b3RoZXI=", Verdict.UNKNOWN),
        ("lab2 ssh-rsa b3RoZXI=", Verdict.UNKNOWN),
        ("|1|garbage lab1 x", Verdict.UNKNOWN),
        ("|1|?|? ssh-ed25519 x", Verdict.UNKNOWN),
        ("\x00\xff nonsense", Verdict.UNKNOWN),
    ],
)
def test_judges_a_key(tmp_path: Path, line: str, verdict: Verdict) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"\n{line}\n")
    known = keys_for("lab1", [tmp_path / "missing", path])
    assert judge(known, "ssh-ed25519", KEY) is verdict


def test_remembers_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "known_hosts"
    name = lookup_name("10.0.0.1", 2222)
    remember(path, name, "ssh-ed25519", KEY)
    remember(path, lookup_name("10.0.0.2", 22), "ssh-ed25519", OTHER)
    assert path.stat().st_mode & 0o077 == 0
    assert judge(keys_for(name, [path]), "ssh-ed25519", KEY) is Verdict.KNOWN
    assert judge(keys_for("10.0.0.2", [path]), "ssh-ed25519", OTHER) is Verdict.KNOWN
    (line,) = keys_for("10.0.0.2", [path])
    assert (line.path, line.line) == (path, 2)
