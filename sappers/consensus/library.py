"""pysyncobj itself: the one version that the layer fits, its settings, and no pickle.

Importing this module replaces the library's pickle by one that refuses, so that no byte from a
socket or a file is ever unpickled.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import pysyncobj.serializer
import pysyncobj.syncobj
from pysyncobj import SyncObjConf

from sappers.config import RaftSettings
from sappers.consensus.journal import Journal
from sappers.consensus.snapshot import SnapshotStore
from sappers.errors import ConfigError

QUEUE_LENGTH = 10_000
_BATCH_BYTES = 2**20
_SOURCES = {
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "monotonic.py": "d116df70e1f81bcab1fb89191fe2fe18486bc25187401d73fd6101cfe686e0a3",
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
}


class _NoPickle:
    """Stands in for the library's pickle: whoever calls it is a bug or an attack."""

    @staticmethod
    def loads(*_: object) -> object:
        """Refuse."""
        raise ValueError("pickle is not used here")

    dumps = load = dump = to_bytes = loads


pysyncobj.syncobj.pickle = pysyncobj.serializer.pickle = _NoPickle
# The library makes these itself from file names; ours are made before and passed in their place.
pysyncobj.syncobj.createJournal = lambda journal: journal
pysyncobj.syncobj.Serializer = lambda store, *_: store


def check_library() -> None:
    """Compare the sources that the overrides rely on with the ones they were written for.

    Raises:
        ConfigError: Another version is installed.
    """
    for name, known in _SOURCES.items():
        source = resources.files(pysyncobj).joinpath(name).read_bytes()
        if hashlib.sha256(source).hexdigest() != known:
            raise ConfigError(
                f"pysyncobj/{name} is not the one of version 0.3.17",
                hint="install the dependencies of the lock file",
            )


def library_settings(
    settings: RaftSettings, journal: Journal, snapshots: SnapshotStore
) -> SyncObjConf:
    """Batches are on: `tick` sends what is new at once, and many entries in one message."""
    return SyncObjConf(
        autoTick=False,
        autoTickPeriod=settings.tick_seconds,
        appendEntriesUseBatch=True,
        raftMinTimeout=settings.election_timeout_min_seconds,
        raftMaxTimeout=settings.election_timeout_max_seconds,
        appendEntriesPeriod=settings.append_entries_seconds,
        connectionTimeout=settings.connection_timeout_seconds,
        connectionRetryTime=settings.connection_retry_seconds,
        leaderFallbackTimeout=settings.leader_fallback_seconds,
        commandsWaitLeader=False,
        commandsQueueSize=QUEUE_LENGTH,
        dynamicMembershipChange=False,
        useFork=False,
        journalFile=journal,
        fullDumpFile=snapshots,
        logCompactionMinEntries=settings.compaction_min_entries,
        logCompactionMinTime=settings.compaction_max_seconds,
        appendEntriesBatchSizeBytes=_BATCH_BYTES,
    )
