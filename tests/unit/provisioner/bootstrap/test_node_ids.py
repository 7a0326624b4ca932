"""A host cannot become another member by saying so."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from sappers.errors import HostUnfit
from sappers.provisioner.bootstrap.node_ids import NodeIds
from sappers.provisioner.bootstrap.settled import Settled, look_at
from sappers.provisioner.executor.executor import CommandResult
from sappers.provisioner.places import STATE_FOLDER
from sappers.security.authority import Authority, create_authority, create_request, sign_request

VICTIM, OWN = "edge1-0a1b2c", "lab1-0a1b2c"


class Host:
    """What an executor says of a host, whose state is a folder here; it has the real openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}

    def become(self, node_id: str, authority: Authority) -> Host:
        """A member as bootstrap, or a seed, has made it."""
        key, request = create_request(node_id)
        signed = sign_request(authority, request, node_id=node_id, role="agent", addresses=())
        self.files |= {"node-id": f"{node_id}\n".encode(), "pki/cert.pem": signed}
        self.files["pki/key.pem"] = key
        return self

    def read_file(self, path: str) -> bytes | None:
        return self.files.get(path.removeprefix(f"{STATE_FOLDER}/"))

    def stat(self, paths: Sequence[str]) -> dict[str, None]:
        return dict.fromkeys(paths)

    def run(self, argv: Sequence[str]) -> CommandResult:
        key = self.folder / "key.pem"
        key.write_bytes(self.files.get("pki/key.pem", b""))
        argv = [word.replace(f"{STATE_FOLDER}/pki/key.pem", str(key)) for word in argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return CommandResult(done.returncode, done.stdout + done.stderr, done.stdout)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority("lab")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def look(host: Host, authority: Authority | None, name: str = "lab1", **owners: str) -> Settled:
    """As a run does whose inventory has lab1 and lab2; `owners` are names and their ids."""
    recorded = {node_id: owner for owner, node_id in owners.items()}
    pem = authority.cert_pem if authority else None
    ids = NodeIds("lab", recorded, ["lab1", "lab2"], pem)
    return look_at(name, host, "lab", ids)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "node_id", ["A-0A1B2C", "a-0a1b2c.", "a/../b", "a?b", "*.sappers", "a\nb", "é", "x" * 64]
)
def test_what_could_pass_for_another_id_is_none(host, node_id):
    host.files["node-id"] = node_id.encode()
    with pytest.raises(HostUnfit, match="is no node id"):
        look(host, None)


def test_an_id_that_is_on_record_for_another_host_is_refused_with_its_key_too(host, authority):
    host.become(OWN, authority)
    with pytest.raises(HostUnfit, match="that is lab1"):
        look(host, authority, "lab2", lab1=OWN)


def test_an_id_that_another_host_has_claimed_in_this_run_is_refused(host, authority):
    host.become(VICTIM, authority)
    ids = NodeIds("lab", {}, ["lab1", "lab2"], authority.cert_pem)
    look_at("lab1", host, "lab", ids)  # type: ignore[arg-type]
    look_at("lab1", host, "lab", ids)  # type: ignore[arg-type]
    with pytest.raises(HostUnfit, match="that is lab1"):
        look_at("lab2", host, "lab", ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("owners", [{}, {"lab1": OWN}, {"gone": VICTIM}])
def test_an_id_that_was_overheard_is_refused(host, authority, owners):
    """Of an appliance, of another inventory's host, of one that is in none any more."""
    host.files["node-id"] = VICTIM.encode()
    with pytest.raises(HostUnfit, match="cannot prove it: it has no certificate"):
        look(host, authority, **owners)


def test_the_certificate_of_another_is_no_proof_without_its_key(tmp_path, host, authority):
    victim = Host(tmp_path).become(VICTIM, authority)
    host.become(OWN, authority)
    host.files |= {name: victim.files[name] for name in ("node-id", "pki/cert.pem")}
    with pytest.raises(HostUnfit, match="its key is not that of its certificate"):
        look(host, authority)
    del host.files["pki/key.pem"]
    with pytest.raises(HostUnfit, match="it has no key that signs"):
        look(host, authority)


def test_its_own_certificate_is_no_proof_of_another_id(host, authority):
    host.become(OWN, authority)
    host.files["node-id"] = VICTIM.encode()
    with pytest.raises(HostUnfit, match="its certificate is for somebody else"):
        look(host, authority, lab1=OWN)


def test_a_certificate_by_another_authority_is_no_proof(host, authority):
    host.become(VICTIM, create_authority("lab"))
    with pytest.raises(HostUnfit, match="another authority signed its certificate"):
        look(host, authority)


def test_what_was_signed_at_another_time_is_no_proof(host, authority, tmp_path):
    host.become(VICTIM, authority)
    before = host.run(
        ["openssl", "req", "-new", "-key", str(tmp_path / "key.pem"), "-subj", "/CN=x"]
    )
    host.run = lambda _: before  # type: ignore[method-assign]
    with pytest.raises(HostUnfit, match="it did not sign what it was asked to"):
        look(host, authority)


@pytest.mark.parametrize("owners", [{}, {"lab1": "lab1-ffffff"}, {"gone": VICTIM}])
def test_a_member_is_known_by_its_key(host, authority, owners):
    """An appliance, a host of another control machine, one that was renamed."""
    host.become(VICTIM, authority)
    assert look(host, authority, **owners).node_id == VICTIM


def test_a_host_is_known_by_its_name_where_its_certificate_is_lost(host, authority):
    host.files["node-id"] = OWN.encode()
    assert look(host, authority, lab1=OWN).is_member


def test_an_authority_that_has_signed_nothing_has_no_members_to_protect(host):
    host.become(VICTIM, create_authority("lab"))
    assert look(host, None).node_id == VICTIM
