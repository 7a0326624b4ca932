"""Boots a host anew, and waits until it is back."""

from __future__ import annotations

import shlex
from typing import Any

from sappers.provisioner.modules import control_step, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Boot a host anew, and wait until it is back.",
    (
        Argument("pre_reboot_delay", "int", "Seconds until it goes; whole minutes count.",
                 default=0, aliases=("pre_reboot_delay_sec",)),
        Argument("post_reboot_delay", "int", "Seconds before it is looked for.", default=0,
                 aliases=("post_reboot_delay_sec",)),
        Argument("reboot_timeout", "int", "Seconds until it fails.", default=600,
                 aliases=("reboot_timeout_sec",)),
        Argument("connect_timeout", "int", "Accepted: a try has 10 seconds.",
                 aliases=("connect_timeout_sec",)),
        Argument("test_command", "str", "Has to succeed when it is back.", default="whoami"),
        Argument("msg", "str", "What users are told.", default="Reboot initiated by Ansible"),
        Argument("search_paths", "list", "Accepted: programs are found by PATH."),
        Argument("boot_time_command", "str", "Says something else after each boot.",
                 default="cat /proc/sys/kernel/random/boot_id"),
        Argument("reboot_command", "str", "Instead of `shutdown -r`."),
    ),
    outward=True,
    returns=(("rebooted", "it was"), ("elapsed", "seconds it took")),
)  # fmt: skip
_TRY_AGAIN_SECONDS = 1.0


def prepare(args: dict[str, Any], control: Any) -> dict[str, Any]:
    """Whether that would be this machine."""
    del args
    return {"_local": control.is_local}


def conduct(task: step.Task) -> step.Plan:
    """Have it go, and ask until its boot is another."""
    args = task.args
    if args["_local"]:
        message = "Running reboot with local connection would reboot the control node."
        raise step.Failed(message, elapsed=0, rebooted=False)
    if task.check:
        return {"changed": True, "elapsed": 0, "rebooted": True}
    began = yield step.Pause(0.0)
    asked = yield _command(args["boot_time_command"])
    if asked.get("failed"):
        return dict(asked)
    done = yield _command(args["reboot_command"] or _shutdown(args))
    # That the connection ends is how it should be.
    if done.get("failed") and not done.get("unreachable"):
        said = "{}, {}".format(done.get("stdout", ""), done.get("stderr") or done.get("msg"))
        raise step.Failed(f"Reboot command failed. Error was: '{said}'", rebooted=False)
    yield control_step.Disconnect()
    yield step.Pause(float(args["post_reboot_delay"]))
    while True:
        now = yield step.Pause(_TRY_AGAIN_SECONDS)
        if now - began >= args["reboot_timeout"] + args["post_reboot_delay"]:
            message = "Timed out waiting for last boot time check (timeout={})"
            raise step.Failed(message.format(args["reboot_timeout"]), rebooted=True,
                              elapsed=int(now - began))  # fmt: skip
        if (yield from _is_back(args, asked["stdout"])):
            return {"changed": True, "rebooted": True, "elapsed": int(now - began)}
        yield control_step.Disconnect()


def _shutdown(args: dict[str, Any]) -> str:
    return shlex.join(["shutdown", "-r", str(args["pre_reboot_delay"] // 60), args["msg"]])


def _command(line: str) -> control_step.OnHost:
    return control_step.OnHost("shell", {"cmd": line})


def _is_back(args: dict[str, Any], before: str) -> step.Steps:
    now = yield _command(args["boot_time_command"])
    if now.get("failed") or now["stdout"] == before:
        return False
    tested = yield _command(args["test_command"])
    return not tested.get("failed")
