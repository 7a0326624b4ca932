"""The agent's unit: written, enabled, and (re)started only when something it runs with changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sappers.errors import ApiError, CommandFailed, HostError
from sappers.model.image import ImageKey
from sappers.provisioner.cluster_probe import ClusterProbe
from sappers.provisioner.founding import Founding
from sappers.provisioner.places import STATE_FOLDER, UNIT_NAME
from sappers.provisioner.plan import ClusterPlan
from sappers.provisioner.run import HostRun
from sappers.provisioner.units import fingerprint, plan_settings, render_settings, render_unit

_UNIT_PATH = f"/etc/systemd/system/{UNIT_NAME}"
_SETTINGS_PATH = f"{STATE_FOLDER}/agent.toml"
# Written after a start that worked: a run killed before that starts the agent again.
_STARTED_WITH_PATH = f"{STATE_FOLDER}/started-with"
_START_SECONDS = 120.0
_HEALTHY_AGAIN_SECONDS = 90.0
_PAUSE_SECONDS = 0.3


class Start:
    """Starts new agents at once, and restarts those of a running cluster one after the other."""

    title = "start"

    def __init__(
        self,
        plan: ClusterPlan,
        founding: Callable[[], Founding],
        probe: ClusterProbe,
        image_key: ImageKey | None,
    ) -> None:
        """`image_key`: whose images the cluster runs from its beginning, if anyone's."""
        self._plan = plan
        self._founding = founding
        self._probe = probe
        self._image_keys = (image_key,) if image_key else ()
        self._one_at_a_time = threading.Lock()

    def run(self, host: HostRun) -> str | None:
        """Raises CommandFailed with the end of the agent's log when it does not start."""
        settings = plan_settings(self._plan, self._founding(), host.name, self._image_keys)
        wanted = fingerprint(settings, version=host.version, identity_digest=host.identity_digest)
        host.write_file(_SETTINGS_PATH, render_settings(settings), mode=0o600)
        host.write_file(_UNIT_PATH, render_unit())
        shown = _show(host)
        if shown.get("NeedDaemonReload") == "yes" and not host.check:
            host.executor.check(["systemctl", "daemon-reload"])
        if shown.get("UnitFileState") != "enabled":
            host.changes.append("unit enabled")
            if not host.check:
                host.executor.check(["systemctl", "--quiet", "enable", UNIT_NAME])
        active = shown.get("ActiveState") == "active"
        started_with = host.executor.read_file(_STARTED_WITH_PATH) or b""
        if active and started_with.decode(errors="replace").strip() == wanted:
            return None
        host.changes.append("agent restarted" if active else "agent started")
        if not host.check:
            self._restart(host, wanted, serial=active)
        return None

    def _restart(self, host: HostRun, wanted: str, *, serial: bool) -> None:
        if not serial:
            _systemctl_restart(host)
        else:
            host.note("waiting for its turn to restart")
            with self._one_at_a_time:
                host.note("restarting")
                led = self._knows_leader(host)
                _systemctl_restart(host)
                if led:
                    self._await_leader(host)
        host.executor.write_file(_STARTED_WITH_PATH, f"{wanted}\n".encode(), mode=0o600)

    def _knows_leader(self, host: HostRun) -> bool:
        """Where nobody leads there is no quorum to lose; the last phase says so."""
        try:
            return self._probe.health(host).leader_id is not None
        except ApiError:
            return False

    def _await_leader(self, host: HostRun) -> None:
        """Hold the turn until this member is of use again; the next one may be the last voter."""
        deadline = time.monotonic() + _HEALTHY_AGAIN_SECONDS
        while True:
            try:
                if self._probe.health(host).leader_id:
                    return
                reason = "it knows no leader"
            except ApiError as error:
                reason = error.message
            if time.monotonic() > deadline:
                raise HostError(
                    host.name,
                    f"its agent is not healthy {_HEALTHY_AGAIN_SECONDS:.0f} s after its restart: "
                    f"{reason}",
                    hint=f"journalctl -u {UNIT_NAME} on the host says more",
                )
            time.sleep(_PAUSE_SECONDS)


def _show(host: HostRun) -> dict[str, str]:
    shown = host.executor.check(
        ["systemctl", "show", UNIT_NAME,
         "--property=UnitFileState,ActiveState,NeedDaemonReload,LoadState"]
    )  # fmt: skip
    return dict(line.partition("=")[::2] for line in shown.stdout.splitlines())


def _systemctl_restart(host: HostRun) -> None:
    host.executor.run(["systemctl", "reset-failed", UNIT_NAME])
    done = host.executor.run(["systemctl", "restart", UNIT_NAME], timeout_seconds=_START_SECONDS)
    if done.exit_code == 0:
        return
    log = host.executor.run(
        ["journalctl", "--unit", UNIT_NAME, "--lines=15", "--no-pager", "--output=cat"]
    )
    raise CommandFailed(
        host.name,
        f"systemctl restart {UNIT_NAME}",
        done.exit_code,
        log.output or done.output,
        hint=f"journalctl -u {UNIT_NAME} on the host says more",
    )
