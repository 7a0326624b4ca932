"""KVM only where it can really run a guest; the reason is always said."""

from __future__ import annotations

import pytest

from sappers.launchers.accelerator import choose_accelerator, detect_accelerator

INTEL = "processor : 0\nflags\t\t: fpu vmx sse\n"
AMD = "processor : 0\nflags\t\t: fpu svm sse\n"
NEITHER = "processor : 0\nflags\t\t: fpu vmx_like sse\n"


@pytest.mark.parametrize(
    ("cpuinfo", "problem", "kind", "reason"),
    [
        (INTEL, "", "kvm", "the processor has vmx and /dev/kvm opens"),
        (AMD, "", "kvm", "the processor has svm and /dev/kvm opens"),
        (NEITHER, "", "tcg", "the processor shows neither vmx nor svm"),
        ("", "", "tcg", "the processor shows neither vmx nor svm"),
        (
            INTEL,
            "does not open: Permission denied",
            "tcg",
            "the processor has vmx, but /dev/kvm does not open: Permission denied",
        ),
    ],
)
def test_choice(cpuinfo: str, problem: str, kind: str, reason: str) -> None:
    found = choose_accelerator(cpuinfo, problem)
    assert (found.kind, found.reason) == (kind, reason)


def test_this_machine_gets_an_answer() -> None:
    assert detect_accelerator().reason
