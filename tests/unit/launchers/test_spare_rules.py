"""Which guest may be given a spare, and when there is one."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.launchers.command import GuestSpec, clone_command
from sappers.launchers.guest_identity import mac_for
from sappers.launchers.spare_rules import QUIET_SECONDS, Outlook, fits, keeps_spare, makes_spare
from sappers.launchers.templates import KEPT_SECONDS
from sappers.model.member import Accelerator

outlooks = st.builds(
    Outlook,
    unused_seconds=st.floats(0, 2 * KEPT_SECONDS),
    quiet_seconds=st.floats(0, 2 * QUIET_SECONDS),
    available_mib=st.integers(0, 4096),
    memory_mib=st.integers(64, 2048),
)
specs = st.builds(
    GuestSpec,
    allocation_id=st.sampled_from(["spare-1", "shop-1", "shop-2"]),
    memory_mib=st.sampled_from([128, 256]),
    accelerator=st.sampled_from([Accelerator("tcg", ""), Accelerator("kvm", "")]),
    address=st.sampled_from(["", "127.0.0.1", "10.0.0.1"]),
    guest_port=st.sampled_from([None, 8080]),
    host_port=st.sampled_from([None, 80, 1023, 1024, 8080]),
    user_id=st.sampled_from([1000, 1001]),
    mac=st.sampled_from([mac_for("shop-1"), mac_for("shop-2")]),
    has_root=st.booleans(),
    kind=st.sampled_from(["microvm", "nanos"]),
    lease_file=st.sampled_from(["", "/lease"]),
)


@given(outlooks)
def test_one_that_is_made_is_not_given_back_at_once(outlook: Outlook) -> None:
    if makes_spare(outlook):
        assert keeps_spare(outlook)
        # The guest that it may become has room, too.
        assert outlook.available_mib > outlook.memory_mib
        still = msgspec.structs.replace(outlook, available_mib=outlook.available_mib - 200)
        assert keeps_spare(still)


@given(outlooks)
def test_a_host_does_not_pay_for_ever(outlook: Outlook) -> None:
    for spent in (
        msgspec.structs.replace(outlook, unused_seconds=KEPT_SECONDS),
        msgspec.structs.replace(outlook, available_mib=100),
    ):
        assert not keeps_spare(spent)
        assert not makes_spare(spent)
    assert not makes_spare(msgspec.structs.replace(outlook, quiet_seconds=QUIET_SECONDS / 2))


@given(specs, specs)
def test_what_is_given_is_what_would_be_started(spare: GuestSpec, guest: GuestSpec) -> None:
    """All that QEMU and its unit may do is alike, but for the user, the name and the MAC."""
    assert not fits(spare, guest, linked=True)
    if fits(spare, guest, linked=False):
        whose = {"allocation_id": "x", "mac": "m", "user_id": 1}
        assert clone_command(msgspec.structs.replace(spare, **whose)) == clone_command(
            msgspec.structs.replace(guest, **whose)
        )
        assert spare.lease_file == guest.lease_file
        low = [spec.host_port is not None and spec.host_port < 1024 for spec in (spare, guest)]
        assert low[0] == low[1]
        assert (spare.memory_mib, spare.kind) == (guest.memory_mib, guest.kind)


@given(specs, st.sampled_from([None, 1024, 8080]), st.sampled_from(["127.0.0.1", "10.0.0.1"]))
def test_whose_it_is_and_where_its_port_is_do_not_matter(
    spec: GuestSpec, port: int | None, address: str
) -> None:
    spare = msgspec.structs.replace(spec, host_port=None, guest_port=None, lease_file="")
    guest = msgspec.structs.replace(
        spare, allocation_id="shop-3", mac=mac_for("shop-3"), user_id=7, tsc_khz=3
    )
    guest = msgspec.structs.replace(guest, host_port=port, guest_port=port, address=address)
    assert fits(spare, guest, linked=False)
