"""Debian packages that agents need; the playbook installs what is missing."""

from __future__ import annotations

from sappers.provisioner.bootstrap.plan import PlannedMember

PACKAGES = ("nftables", "openssl", "qemu-system-x86")
GATEWAY_PACKAGE = "haproxy"


def packages_for(member: PlannedMember) -> tuple[str, ...]:
    """What a member needs."""
    return (*PACKAGES, GATEWAY_PACKAGE) if member.gateway_port else PACKAGES
