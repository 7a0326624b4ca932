"""A link that is approached is there when it is asked for; what went wrong is said then."""

from __future__ import annotations

import socket

import pytest

from sappers.errors import HostError, HostUnreachable
from sappers.provisioner.inventory.host import Host, local_host
from sappers.provisioner.playbook.run.links import HostLink


def test_who_was_approached_is_not_started_again() -> None:
    link = HostLink(local_host())
    link.approach(None)
    session = link.session(None)
    link.approach(None)
    assert link.session(None) is session
    link.close()


def test_that_nobody_answered_is_said_when_the_session_is_asked_for_and_then_tried_again() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        link = HostLink(Host("h", (), {}, "127.0.0.1", port=port))
        for approached in (True, False):
            if approached:
                link.approach(None)
            with pytest.raises(HostUnreachable):
                link.session(None)
        link.close()


def test_another_user_does_not_hear_what_was_wrong_with_the_one_approached() -> None:
    link = HostLink(local_host())
    link.approach("nobody-of-that-name", "su")
    link.session(None)
    with pytest.raises(HostError):
        link.session("nobody-of-that-name", "su")
    link.close()


@pytest.mark.parametrize("address", ["web:many", "{'a': 'b'}", "root@web"])
def test_what_is_no_address_is_refused_before_anybody_takes_it_apart(address: str) -> None:
    link = HostLink(Host("h", (), {}, address))
    with pytest.raises(HostUnreachable, match="is no address"):
        link.session(None)
    link.close()
