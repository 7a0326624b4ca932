"""Cases one after the other: the same outcomes, the same state after, and again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path

from sappers.config import ControlHome
from tests.corpus.ansible import ensure_ansible
from tests.corpus.case import CASES, OPTIONS, Outcomes
from tests.corpus.case import HERE as CORPUS
from tests.corpus.keys import lacking
from tests.corpus.server import web_server
from tests.sameness.announced import announced_wrongly, stepwise_wrongly
from tests.sameness.hosts import State, Twins, differences
from tests.sameness.meant import MEANT, Meant
from tests.sameness.runs import ROOT, Players

# Those for hosts alone come first and see them as they were installed.
HOST_CASES = sorted(path.stem for path in (CORPUS / "host_cases").glob("*.yml"))
ALL = (*HOST_CASES, *CASES)
REBOOTING = ("host_reboot",)
# Packages that Ansible's modules, or a playbook, need on the hosts beside those of all cases.
PACKAGES = {
    "host_dnf": ("createrepo-c", "dnf", "rpm"),
    "host_inventories": ("python3-debian",),
}
# Those that CI runs: of most modules and keywords a little.
QUICK = ("host_everyday", "host_become")


@dataclass(frozen=True)
class Compared:
    """Where Ansible and we differ, and where we do and it is meant."""

    differs: list[str] = field(default_factory=list)
    meant: list[str] = field(default_factory=list)


@dataclass
class Sameness:
    """Compares on two hosts. They are not made anew between cases: what both left is the same.

    A difference that a case leaves is told once, with that case.
    """

    twins: Twins
    players: Players
    _known: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def open(
        cls, name: str, home: ControlHome, say: Callable[[str], None], cases: Sequence[str] = ALL
    ) -> Iterator[Sameness]:
        """For some cases, with a lab of its own, which is removed at the end."""
        packages = [one for case in cases for one in PACKAGES.get(case, ())]
        ansible = ensure_ansible(home.cache, say)
        with (
            Twins.open(name, home, say, packages) as twins,
            tempfile.TemporaryDirectory(prefix="sappers-sameness-") as folder,
            web_server(twins.lab.plan.control_address) as server,
        ):
            players = Players(twins, ansible, home, Path(folder), server)
            sameness = cls(twins, players)
            sameness._known.update(differences(*twins.look()))
            try:
                yield sameness
            finally:
                players.close()

    def compare(self, case: str) -> Compared:
        """Where Ansible and we differ on a case, run twice.

        Those for hosts alone are announced before; and once more by us, task by task.
        """
        folder = "host_cases" if case in HOST_CASES else "cases"
        path = CORPUS / folder / f"{case}.yml"
        options = OPTIONS[case][1] if case in OPTIONS else ()
        self.twins.on_both(f"mkdir -p {ROOT / case}")
        found = Compared()
        look = partial(self.twins.look_at, self.twins.names[1])
        for time in ("first run", "second run"):
            with self._on(case):
                ran = self.players.run(path, options, look if case in HOST_CASES else None)
            told = told_differently(ran.ansible, ran.ours, MEANT.get(case))
            left = self._left_differently(self.twins.look())
            wrong = announced_wrongly(ran) if case in HOST_CASES else ()
            lacks = lacking(ran.ansible.keys, ran.ours.keys)
            found.differs.extend(
                f"{time}: {line}" for line in (*told.differs, *left, *wrong, *lacks)
            )
            found.meant.extend(f"{time}: {line}" for line in told.meant)
        if case in HOST_CASES:
            with self._on(case):
                wrong = stepwise_wrongly(self.players.run_stepwise(path, options))
            left = self._left_differently(self.twins.look())
            found.differs.extend(f"step by step: {line}" for line in (*wrong, *left))
        return found

    def _on(self, case: str) -> AbstractContextManager[None]:
        return self.twins.coming_back() if case in REBOOTING else nullcontext()

    def _left_differently(self, states: Sequence[State]) -> list[str]:
        lines = differences(*states)
        new = [line for line in lines if line not in self._known]
        self._known.update(new)
        return new


def told_differently(ansible: Outcomes, ours: Outcomes, meant: Meant | None = None) -> Compared:
    """Tasks that ended otherwise, or said something else; hosts that count otherwise.

    What a host was told to do is compared in order.
    """
    compared = Compared()
    for host in sorted({entry[1] for entry in (*ansible.tasks, *ours.tasks)}):
        told = [[entry for entry in one.tasks if entry[1] == host] for one in (ansible, ours)]
        for number, (wanted, found) in enumerate(zip_longest(*told), start=1):
            if wanted != found:
                is_meant = meant is not None and meant.holds(wanted, found)
                lines = compared.meant if is_meant else compared.differs
                lines.append(f"{host}, task {number}: Ansible: {wanted}, ours: {found}")
    if ansible.recap != ours.recap:
        compared.differs.append(f"recap: Ansible: {ansible.recap}, ours: {ours.recap}")
    return compared
