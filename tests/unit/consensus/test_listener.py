from __future__ import annotations

import socket

from sappers.consensus.listener import listen_on


def test_nothing_small_waits_for_more_on_connections_that_were_accepted() -> None:
    with listen_on(("127.0.0.1", 0)) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()):
            connection, _ = listener.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
