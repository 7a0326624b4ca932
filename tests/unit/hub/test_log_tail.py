"""No line is missed, whatever the server does with its log meanwhile."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sappers.hub.log_tail import LogTail


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(["rotate", "remove", "read"]))),
    st.booleans(),
)
def test_every_line_comes_once_and_in_order(tmp_path_factory, steps, begun: bool) -> None:
    log: Path = tmp_path_factory.mktemp("log") / "nats-server.log"
    if begun:
        log.write_bytes(b"of before\n")
    written, found = b"", b""
    with closing(LogTail(log)) as tail:
        for step in steps:
            if isinstance(step, bytes):
                with log.open("ab") as file:
                    file.write(step)
                written += step
                continue
            found += tail.new()  # so that there are not two new logs between two readings
            if step == "rotate" and log.exists():
                log.rename(log.with_suffix(".1"))
            elif step == "remove":
                log.unlink(missing_ok=True)
        found += tail.new()
    assert found == written[: written.rfind(b"\n") + 1]


def test_a_log_that_is_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "nats-server.log"
    log.write_bytes(b"a long line of before\n")
    with closing(LogTail(log)) as tail:
        log.write_bytes(b"new\nhal")
        assert tail.new() == b"new\n"
        with log.open("ab") as file:
            file.write(b"f\n")
        assert tail.new() == b"half\n"
