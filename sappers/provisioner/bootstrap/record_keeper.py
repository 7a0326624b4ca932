"""Keeps `cluster.json` while a run goes on.

Invariant: who has which node id is on disk before the host has it, and one host has it: what is
on record decides whom the next run believes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sappers.errors import ConfigError
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.forming import Answers
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.control.record import (
    ClusterRecord,
    RecordedMember,
    load_record,
    save_record,
)


class RecordKeeper:
    """One run's; hosts' threads ask. Members that this run does not work on stay."""

    def __init__(self, folder: Path, plan: ClusterPlan, inventory: Path) -> None:
        self._folder = folder
        self._plan = plan
        self._inventory = str(inventory.absolute())
        self._lock = threading.Lock()

    def owners(self) -> Mapping[str, str]:
        """Names of hosts by their node id."""
        return {one.node_id: one.name for one in self._load().members}

    def remember(self, run: HostRun) -> None:
        """Keep which member a host is, or is about to be."""
        me = RecordedMember(
            run.name, run.settled.node_id, run.member.address, self._plan.ports.http
        )
        with self._lock:
            before = self._load()
            if me in before.members:
                return
            others = [
                one for one in before.members if one.name != me.name and one.node_id != me.node_id
            ]
            self._save(before, msgspec.structs.replace(before, members=self._sorted([*others, me])))

    def conclude(self, answers: Answers) -> bool:
        """Keep the cluster's id, and where its hosts are listed; False while it has no member."""
        with self._lock:
            before = self._load()
            healths = [one for one in answers.values() if isinstance(one, MemberHealth)]
            cluster_id = next(filter(None, (one.cluster_id for one in healths)), before.cluster_id)
            if before.members:
                self._save(before, msgspec.structs.replace(before, cluster_id=cluster_id))
            return bool(before.members)

    def _sorted(self, members: list[RecordedMember]) -> tuple[RecordedMember, ...]:
        """As the inventory has them, and the others after them."""
        places = {one.name: place for place, one in enumerate(self._plan.members)}
        return tuple(sorted(members, key=lambda one: places.get(one.name, len(places))))

    def _load(self) -> ClusterRecord:
        try:
            return load_record(self._folder)
        except ConfigError:
            return ClusterRecord(name=self._plan.name, members=())

    def _save(self, before: ClusterRecord, record: ClusterRecord) -> None:
        record = msgspec.structs.replace(record, inventory=self._inventory)
        if record != before:
            save_record(self._folder, record)
