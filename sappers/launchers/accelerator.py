"""How guests run on this host: KVM only where it can really run one, else full emulation."""

from __future__ import annotations

import os
from pathlib import Path

from sappers.model.member import Accelerator

_KVM = "/dev/kvm"


def detect_accelerator() -> Accelerator:
    """What this host offers, and why."""
    return choose_accelerator(Path("/proc/cpuinfo").read_text(), _open_problem(_KVM))


def choose_accelerator(cpuinfo: str, kvm_problem: str) -> Accelerator:
    """KVM needs both: `/dev/kvm` may open on a machine whose processor cannot run guests.

    Args:
        cpuinfo: `/proc/cpuinfo`.
        kvm_problem: Why `/dev/kvm` does not open read-write, or empty.
    """
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    extension = next((flag for flag in ("vmx", "svm") if flag in flags), None)
    if extension is None:
        return Accelerator("tcg", "the processor shows neither vmx nor svm")
    if kvm_problem:
        return Accelerator("tcg", f"the processor has {extension}, but {_KVM} {kvm_problem}")
    return Accelerator("kvm", f"the processor has {extension} and {_KVM} opens")


def _open_problem(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"does not open: {error.strerror}"
    return ""
