"""What a process draws random numbers from besides the kernel.

Two guests that start from one checkpoint have the same memory, so everything that was seeded before
the checkpoint would go on the same way in both. The kernel is reseeded first; then every process
that was there calls `reseed_process`. What stays the same in clones of one template: the secret of
Python's hashes and the layout of memory, which no living process can change.
"""

from __future__ import annotations

import os
import sys

_SEED_BYTES = 64


def reseed_process() -> None:
    """Give this process's generators new seeds of the kernel; imports none of them."""
    if random := sys.modules.get("random"):
        random.seed()
    if ssl := sys.modules.get("_ssl"):
        # OpenSSL mixes it in, and draws from the kernel anew before it gives out another byte.
        ssl.RAND_add(os.urandom(_SEED_BYTES), float(_SEED_BYTES))
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed(list(os.urandom(_SEED_BYTES)))
    if uuid := sys.modules.get("uuid"):
        vars(uuid)["_node"] = None  # uuid1's memory of the MAC address
