"""The executor's modules as they travel."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sappers.provisioner.executor.program import program
from sappers.provisioner.executor.start import MODULES

_HOSTS = 16


def test_hosts_that_ask_at_one_time_are_sent_what_was_made_once() -> None:
    together = Barrier(_HOSTS)

    def ask(_: int) -> bytes:
        together.wait()
        return program(MODULES, "")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(_HOSTS) as pool:
            sent = list(pool.map(ask, range(_HOSTS)))
    finally:
        sys.setswitchinterval(interval)
    assert len({id(one) for one in sent}) == 1
