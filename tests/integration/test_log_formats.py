"""A rolling upgrade that brings a command: agents of two versions, each a program of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import sappers
from sappers.assembly.by_hand import KEYS_FOLDER
from sappers.errors import ApiError
from sappers.model.view import MemberHealth
from tests.integration.by_hand import AgentsByHand
from tests.loopback import own_network
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)
WHOLE_SECONDS = 120.0
LATER = "9.9.9"

# The later version: to stop a workload leaves a mark, by a command that only it knows.
_PATCHES = (
    ("__init__.py", f'__version__ = "{sappers.__version__}"', f'__version__ = "{LATER}"'),
    ("model/log_format.py", "\nFORMAT = 1\n", "\nFORMAT = 2\n"),
    (
        "model/commands.py",
        "class NoOperation(",
        "class Mark(msgspec.Struct, frozen=True, tag='mark'):\n"
        "    since_format: ClassVar[int] = 2\n"
        "    name: str\n\n\n"
        "class NoOperation(",
    ),
    ("model/commands.py", "    | AdoptFormat\n", "    | AdoptFormat\n    | Mark\n"),
    ("model/commands.py", "import Annotated, ", "import Annotated, ClassVar, "),
    (
        "consensus/state_machine.py",
        "    AdoptFormat: _timeless(",
        "    Mark: _timeless(lambda state, command: (msgspec.structs.replace(\n"
        "        state, stopped_by_hand=(*state.stopped_by_hand, command.name)),\n"
        "        (Happened('mark.left', command.name, 'a mark', follows=()),))),\n"
        "    AdoptFormat: _timeless(",
    ),
    ("consensus/state_machine.py", "    AdoptFormat,\n", "    AdoptFormat,\n    Mark,\n"),
    ("api/writes.py", "StopWorkload(call.path.name)", "Mark(call.path.name)"),
    ("api/writes.py", "    ForgetMember,\n", "    ForgetMember,\n    Mark,\n"),
)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the later version is."""
    packages = tmp_path_factory.mktemp("later")
    package = packages / "sappers"
    shutil.copytree(
        Path(sappers.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, before, after in _PATCHES:
        text = (package / name).read_text()
        assert text.count(before) == 1, (name, before)
        (package / name).write_text(text.replace(before, after))
    return packages


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[AgentsByHand]:
    by_hand = AgentsByHand(tmp_path, f"{own_network()}9")
    yield by_hand
    by_hand.close()


def leave_mark(agents: AgentsByHand, number: int, name: str) -> str:
    """Through one agent; why it is refused, or empty."""
    with agents.client_at(number) as client:
        try:
            client.delete_workload(name)
        except ApiError as error:
            return f"{error.message}; {error.hint}"
    return ""


def health_of(agents: AgentsByHand, number: int) -> MemberHealth | None:
    with agents.client_at(number) as client, contextlib.suppress(ApiError):
        return client.health()
    return None


def marks(agents: AgentsByHand, number: int) -> list[str]:
    with agents.client_at(number) as client:
        return list(msgspec.json.decode(client.state_json())["stopped_by_hand"])


def the_past_is_one(agents: AgentsByHand) -> None:
    keys = str(agents.folder / KEYS_FOLDER)
    wait_until("a whole cluster", lambda: agents.is_whole(3), WHOLE_SECONDS)
    checked = agents.run("events", "verify", "--cluster", keys, program="sappers-deploy")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def log_has_format(agents: AgentsByHand, number: int, wanted: int) -> bool:
    with agents.client_at(number) as client:
        return bool(msgspec.json.decode(client.state_json())["format"] == wanted)


def upgrade(agents: AgentsByHand, number: int, packages: Path | None) -> None:
    """Or what is done where `packages` is None."""
    agents.kill(f"node{number}")
    agents.start(number, packages=packages)
    wait_until("all three", lambda: agents.is_whole(3), WHOLE_SECONDS)


def test_a_new_command_works_once_the_last_agent_knows_it(
    agents: AgentsByHand, later: Path
) -> None:
    agents.start(1, "--bootstrap", "3")
    peers = ("--peers", f"{agents.address}:17946")
    wait_until("the keys", (agents.folder / KEYS_FOLDER / "cluster.json").exists)
    agents.start(2, *peers)
    agents.start(3, *peers, packages=later)
    wait_until("three members with a hub", lambda: agents.is_whole(3), WHOLE_SECONDS)
    wait_until("format 1", lambda: log_has_format(agents, 3, 1))

    refused = leave_mark(agents, 3, "early")
    assert "it needs format 2 of the log, which has 1; not known to node1 (" in refused
    assert ", node2 (" in refused and "sappers-deploy bootstrap" in refused
    upgrade(agents, 1, later)
    refused = leave_mark(agents, 1, "early")
    assert f"not known to node2 ({sappers.__version__}, alive);" in refused
    the_past_is_one(agents)
    upgrade(agents, 2, later)
    for number in (1, 2, 3):
        wait_until("format 2", lambda number=number: log_has_format(agents, number, 2))  # type: ignore[misc]
    assert leave_mark(agents, 2, "works") == ""
    the_past_is_one(agents)
    assert [marks(agents, number) for number in (1, 2, 3)] == [["works"]] * 3

    # One comes back as it was: it holds the past as far as it knows it, and the others go on.
    agents.kill("node1")
    agents.start(1)

    def is_told() -> bool:
        view = agents.view()
        return view is not None and any(
            one.startswith(f"node1 ({sappers.__version__}) needs a newer version")
            for one in view.attention
        )

    wait_until("it says so", is_told, WHOLE_SECONDS)
    wait_until("another mark", lambda: leave_mark(agents, 3, "after") == "", WHOLE_SECONDS)
    health = wait_until("its own word", lambda: health_of(agents, 1), WHOLE_SECONDS)
    assert health.log_trouble == "the log has format 2, and this version knows 1 at most"
    assert health.role != "leader"
    agents.kill("node1")
    agents.start(1, packages=later)
    the_past_is_one(agents)
    assert [marks(agents, number) for number in (1, 2, 3)] == [["works", "after"]] * 3
