from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.repair.access import (
    MARK,
    access_line,
    with_member_access,
)

MEMBER = "lab1-0a1b2c"
LINE = access_line("ssh-ed25519 AAAA", MEMBER)
OTHERS = st.lists(
    st.binary(max_size=30).filter(lambda line: b"\n" not in line and b"\r" not in line)
).map(lambda lines: b"".join(line + b"\n" for line in lines))


def test_the_line_lets_one_members_healers_run_commands() -> None:
    assert LINE == (
        'cert-authority,principals="sappers-repair-lab1-0a1b2c",restrict ssh-ed25519 AAAA '
        "sappers-repair"
    )


def test_a_new_key_takes_the_place_of_the_old_one() -> None:
    before = b"ssh-rsa AAAB me\n" + with_member_access(b"", LINE, MEMBER)
    rotated = access_line("ssh-ed25519 BBBB", MEMBER)
    after = with_member_access(before, rotated, MEMBER)
    assert after == b"ssh-rsa AAAB me\n" + rotated.encode() + b"\n"


def test_of_several_members_only_the_ones_old_line_goes() -> None:
    other = access_line("ssh-ed25519 AAAA", "lab1-0a1b2c3").encode()
    before = b"\xff\r\n" + LINE.encode() + b"\n" + other + b"\n\nssh-rsa AAAB me"
    assert with_member_access(before, LINE, "lab1-0a1b2c") == before
    rotated = access_line("ssh-ed25519 BBBB", "lab1-0a1b2c")
    after = with_member_access(before, rotated, "lab1-0a1b2c")
    assert after == b"\xff\r\n" + other + b"\n\nssh-rsa AAAB me\n" + rotated.encode() + b"\n"
    assert with_member_access(after, rotated, "lab1-0a1b2c") == after


def test_a_last_line_without_an_end_stays_whole() -> None:
    after = with_member_access(b"ssh-rsa AAAB me", LINE, MEMBER)
    assert after == f"ssh-rsa AAAB me\n{LINE}\n".encode()


def test_a_persons_line_that_looks_like_ours_stays() -> None:
    theirs = f"ssh-rsa AAAB {MARK}\n".encode()
    assert with_member_access(theirs, LINE, MEMBER) == theirs + LINE.encode() + b"\n"


@given(OTHERS)
def test_nobody_elses_line_is_ever_touched(others: bytes) -> None:
    written = with_member_access(others, LINE, MEMBER)
    assert written == others + LINE.encode() + b"\n"
    assert with_member_access(written, LINE, MEMBER) == written
