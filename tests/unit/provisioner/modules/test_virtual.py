"""What a host says of itself, and of what it is a guest."""

from __future__ import annotations

from typing import Any

import pytest

from sappers.provisioner.modules._virtual import TEXTS, virtualization


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, ("NA", "NA", [], [])),
        ({"/proc/1/cgroup": "0::/docker/abc"}, ("docker", "guest", ["container", "docker"], [])),
        ({"/.dockerenv": True}, ("docker", "guest", ["container", "docker"], [])),
        (
            {"/proc/1/environ": "A=b\0container=lxc\0", "/run/systemd/container": "lxc\n"},
            ("lxc", "guest", ["container", "lxc"], []),
        ),
        (  # who may not read the environment of process 1 knows only what systemd says
            {"/run/systemd/container": "systemd-nspawn\n"},
            ("systemd-nspawn", "guest", ["container", "systemd-nspawn"], []),
        ),
        (
            {"/proc/1/environ": "container=systemd-nspawn", "product_name": "KVM"},
            ("container", "guest", ["container", "kvm"], []),
        ),
        ({"/proc/xen": True}, ("xen", "guest", ["xen"], [])),
        (
            {"/proc/xen": True, "/proc/xen/capabilities": "control_d"},
            ("xen", "host", [], ["xen"]),
        ),
        ({"/proc/vz": True, "/proc/bc": True}, ("openvz", "host", [], ["openvz"])),
        ({"system_vendor": "Amazon EC2"}, ("kvm", "guest", ["kvm"], [])),
        ({"product_name": "VMware Virtual Platform"}, ("VMware", "guest", ["VMware"], [])),
        ({"bios_vendor": "innotek GmbH"}, ("virtualbox", "guest", ["virtualbox"], [])),
        ({"cpuinfo": "model name\t: QEMU Virtual CPU 2.5"}, ("kvm", "guest", ["kvm"], [])),
        ({"/proc/modules": "kvm 1 0\nkvm_amd 1 0"}, ("kvm", "host", [], ["kvm"])),
        ({"/dev/kvm": True}, ("kvm", "host", [], ["kvm"])),
        ({"system_vendor": "QEMU", "/dev/kvm": True}, ("kvm", "guest", ["kvm"], ["kvm"])),
    ],
)
def test_what_it_is_a_guest_of(said: dict[str, Any], told: tuple[Any, ...]) -> None:
    texts = {path: said.get(path, "") for path in TEXTS}
    there = {path for path, value in said.items() if value is True}
    firmware = {name: value for name, value in said.items() if not name.startswith("/")}
    found = virtualization(texts, there, firmware, said.get("cpuinfo", ""))
    names = ("type", "role", "tech_guest", "tech_host")
    assert tuple(found[f"virtualization_{name}"] for name in names) == told
