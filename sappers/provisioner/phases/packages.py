"""Debian packages that agents need, installed through the SSH connection."""

from __future__ import annotations

from sappers.provisioner.apt import Apt
from sappers.provisioner.plan import PlannedMember
from sappers.provisioner.run import HostRun

PACKAGES = ("nftables", "openssl", "qemu-system-x86")
GATEWAY_PACKAGE = "haproxy"
# Of the package's own; the agent runs the program in a unit that follows Consul.
_GATEWAY_SERVICE = "haproxy.service"


def packages_for(member: PlannedMember) -> tuple[str, ...]:
    """What a member needs."""
    return (*PACKAGES, GATEWAY_PACKAGE) if member.gateway_port else PACKAGES


class Packages:
    """Installs what is missing, and mends what an interrupted run left half installed."""

    title = "packages"

    def __init__(self, apt: Apt) -> None:
        self._apt = apt

    def run(self, host: HostRun) -> str | None:
        """Raises CommandFailed when apt cannot; says who holds its lock."""
        missing = [name for name in packages_for(host.member) if name not in host.facts.packages]
        if not missing:
            return None
        host.changes += [f"package {name}" for name in missing]
        if host.check:
            return None
        with self._apt.options(host) as options:
            # What a killed run left unpacked must be configured before apt does anything.
            self._apt.run(host, ["dpkg", "--force-confold", "--configure", "-a"])
            with self._apt.turn():
                self._apt.fetch(host, ["apt-get", "-q", *options, "update"])
            install = ["apt-get", "-q", "-y", *options, "--no-install-recommends",
                       "--fix-broken", "install"]  # fmt: skip
            self._apt.fetch(host, [*install, "--download-only", *missing])
            self._apt.run(host, [*install, *missing])
        if GATEWAY_PACKAGE in missing:  # nobody runs it here yet, and nobody asked for it
            host.executor.check(["systemctl", "--quiet", "disable", "--now", _GATEWAY_SERVICE])
        return None
