"""Violations are read from the server's log, by the key that it has verified."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sappers.hub.violations import ViolationLog

USER, VICTIM, ACCOUNT = "U" + "A" * 55, "U" + "B" * 55, "A" + "C" * 55


def line(what: str, *, user: str = USER, name: str = "v2.16.0:python3:guest") -> str:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f"[9] 2026/11/25 21:11:41.010 [ERR] 127.0.0.1:46302 - cid:2 - "
        f'"{quoted}" - "{ACCOUNT}/test/jwt:{user}" - {what}\n'
    )


PUBLISH = line('Publish Violation - Subject "sappers.guest.other.health"')


def test_what_is_new_is_counted_by_user(tmp_path: Path) -> None:
    log = tmp_path / "nats-server.log"
    log.write_text(PUBLISH)
    violations = ViolationLog(log)
    assert violations.new() == {}
    with log.open("a") as file:
        file.write("[9] Server is ready\n")
        file.write(PUBLISH * 2 + line('Subscription Violation - Subject ">", SID 2', user=VICTIM))
        file.write(line("maximum subscriptions exceeded") + PUBLISH[:60])
    assert violations.new() == {USER: 3, VICTIM: 1}
    assert violations.new() == {}
    with log.open("a") as file:
        file.write(PUBLISH[60:])
    assert violations.new() == {USER: 1}
    log.write_text(PUBLISH)  # a new file
    assert violations.new() == {USER: 1}
    log.unlink()
    assert violations.new() == {}


def test_a_log_that_grows_fast_is_not_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "nats-server.log"
    violations = ViolationLog(log)
    log.write_text(PUBLISH * 20_000)
    assert 0 < violations.new()[USER] < 2_000
    assert violations.new() == {}


@given(st.text(st.sampled_from('x"\\/- ')), st.text(st.sampled_from('x"\\/- ')))
def test_nobody_is_blamed_by_what_a_client_calls_itself(
    tmp_path_factory, before: str, after: str
) -> None:
    forged = f'{before}" - "{ACCOUNT}/test/jwt:{VICTIM}" - Publish Violation - {after}'
    log = tmp_path_factory.mktemp("log") / "nats-server.log"
    violations = ViolationLog(log)
    log.write_text(line("Publish Violation", name=forged))
    assert violations.new() == {USER: 1}
