"""Whether a host is a guest, and of what; a pure function of what its system says."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Set, Tuple

# Files whose content is asked for, and paths of which it is asked whether they are there.
TEXTS = (
    "/proc/1/cgroup", "/proc/1/environ", "/proc/modules", "/proc/xen/capabilities",
    "/run/systemd/container",
)  # fmt: skip
PATHS = (
    "/.dockerenv", "/.dockerinit", "/dev/kvm", "/proc/bc", "/proc/lve", "/proc/vz", "/proc/xen",
)  # fmt: skip
_GUEST, _HOST = "guest", "host"
_CGROUPS = (
    (r"/docker(/|-[0-9a-f]+\.scope)", "docker"),
    (r"/lxc/|/machine\.slice/machine-lxc", "lxc"),
    (r"/system\.slice/containerd\.service", "containerd"),
)
_CONTAINERS = {"docker", "lxc", "podman", "openvz", "containerd"}
# What the firmware says, in the order in which the first counts: fact, how it begins, kind.
_FIRMWARE = (
    ("product_name", r"(KVM|KVM Server|Bochs|AHV|CloudStack KVM Hypervisor)$", "kvm"),
    ("system_vendor", "oVirt$", "oVirt"),
    ("product_family", "RHV$", "RHV"),
    ("product_name", "RHEV Hypervisor$", "RHEV"),
    ("product_name", "VMware", "VMware"),
    ("product_name", "OpenStack (Compute|Nova)$", "openstack"),
    ("bios_vendor", "Xen$", "xen"),
    ("bios_vendor", "innotek GmbH$", "virtualbox"),
    ("bios_vendor", "(Amazon EC2|DigitalOcean|Hetzner|Linode)$", "kvm"),
    ("system_vendor", "(QEMU|Amazon EC2|DigitalOcean|Google|Scaleway|Nutanix)$", "kvm"),
    ("system_vendor", "KubeVirt$", "KubeVirt"),
    ("system_vendor", "Microsoft Corporation$", "VirtualPC"),
    ("system_vendor", r"Parallels Software International Inc\.$", "parallels"),
    ("system_vendor", "OpenStack Foundation$", "openstack"),
)
_PROCESSORS = (
    (r"^model name.*QEMU Virtual CPU", "kvm"),
    (r"^vendor_id.*User Mode Linux|^model name.*UML", "uml"),
    (r"^machine.*CHRP IBM pSeries .emulated by qemu.", "kvm"),
    (r"^vendor_id.*PowerVM Lx86", "powervm_lx86"),
    (r"^vendor_id.*IBM/S390", "PR/SM"),
)
# Of modules of the kernel: what they make of the host. Ansible counts `virtio` among these.
_MODULES = (("kvm", "kvm", _HOST), ("vboxdrv", "virtualbox", _HOST), ("virtio", "kvm", _GUEST))


def virtualization(
    texts: Dict[str, str], there: Set[str], firmware: Dict[str, str], cpuinfo: str
) -> Dict[str, Any]:
    """`virtualization_type`, `…_role` and the kinds that are met, as Ansible has them.

    Args:
        texts: The contents of `TEXTS`, empty where there is none.
        there: Those of `PATHS` that are there.
        firmware: Facts: `product_name`, `product_family`, `system_vendor`, `bios_vendor`.
    """
    met: List[Tuple[str, str]] = _containers(texts, there)
    met += [(kind, _GUEST) for fact, begins, kind in _FIRMWARE
            if re.match(begins, firmware.get(fact, ""))]  # fmt: skip
    met += [(kind, _GUEST) for pattern, kind in _PROCESSORS if re.search(pattern, cpuinfo, re.M)]
    hosts = {kind for kind, role in met if role == _HOST}
    guests = {kind for kind, role in met if role == _GUEST}
    modules = {line.split(" ")[0] for line in texts["/proc/modules"].splitlines()}
    for name, kind, role in _MODULES:
        if name in modules:
            met.append((kind, role))
            hosts.add(kind)
    if "BHYVE" in firmware.get("product_name", ""):
        met.append(("bhyve", _GUEST))
        guests.add("bhyve")
    if "/dev/kvm" in there:
        met.append(("kvm", _HOST))
        hosts.add("kvm")
    if guests & _CONTAINERS or texts["/run/systemd/container"].strip():
        guests.add("container")
    kind, role = met[0] if met else ("NA", "NA")
    return {
        "virtualization_type": kind,
        "virtualization_role": "LPAR" if kind == "PR/SM" else role,
        "virtualization_tech_guest": sorted(guests),
        "virtualization_tech_host": sorted(hosts),
    }


def _containers(texts: Dict[str, str], there: Set[str]) -> List[Tuple[str, str]]:
    """What says that this is a container; process 1 and its groups come first."""
    met = [(kind, _GUEST) for pattern, kind in _CGROUPS
           if re.search(pattern, texts["/proc/1/cgroup"])]  # fmt: skip
    for said in texts["/proc/1/environ"].split("\0"):
        name, _, value = said.partition("=")
        if name == "container" and value:
            met += [(kind, _GUEST) for kind in ("lxc", "podman") if value.startswith(kind)]
            met.append(("container", _GUEST))
    if "/proc/vz" in there and "/proc/lve" not in there:
        met.append(("openvz", _HOST if "/proc/bc" in there else _GUEST))
    if texts["/run/systemd/container"].strip():
        met.append((texts["/run/systemd/container"].strip(), _GUEST))
    if there & {"/.dockerenv", "/.dockerinit"}:
        met.append(("docker", _GUEST))
    if "/proc/xen" in there:
        met.append(("xen", _HOST if "control_d" in texts["/proc/xen/capabilities"] else _GUEST))
    return met
