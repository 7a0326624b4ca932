"""Drives modules that are conducted from here: what they ask is asked of the host, or done here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sappers.errors import HostError, HostUnreachable
from sappers.provisioner.modules import control_step, step
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.arguments import typed_arguments
from sappers.provisioner.playbook.run import kept_files
from sappers.provisioner.playbook.run.reach import Reach
from sappers.provisioner.playbook.tasks.prepared import Call, Prepared

Result = dict[str, Any]


def conduct(
    reach: Reach, host: str, prepared: Prepared, call: Call, sleep: Callable[[float], None]
) -> Result:
    """The result of a call.

    Raises:
        HostError: The host cannot be reached, or not as who is wanted.
    """
    plan = catalog.source_of(call.module).conduct(step.Task(dict(call.args), call.check))
    answer: Any = None
    wanted: Any = None
    try:
        while True:
            wanted = plan.send(answer)
            answer = _answer(wanted, reach, host, prepared, call, sleep)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if not isinstance(wanted, control_step.OnHost):
            raise
        message = f"the host says what makes no sense: {error!r}"  # and no module has to foresee it
        return {"failed": True, "changed": False, "msg": message}
    except StopIteration as end:
        return dict(end.value)
    except step.Failed as error:
        return {"failed": True, "changed": False, "msg": error.message, **error.result}
    except OSError as error:  # of this machine: what a host lacks is in its module's result
        where = f": {error.filename}" if error.filename else ""
        return {"failed": True, "changed": False, "msg": f"{error.strerror or error}{where}"}


def _answer(
    wanted: Any, reach: Reach, host: str, prepared: Prepared, call: Call,
    sleep: Callable[[float], None],
) -> Any:  # fmt: skip
    match wanted:
        case step.Pause():
            if wanted.seconds:
                sleep(wanted.seconds)
            return time.monotonic()
        case control_step.OnHost():
            return _on_host(wanted, reach, host, prepared, call)
        case control_step.Raw():
            return reach.raw(host, prepared, wanted.line, wanted.executable)
        case control_step.Disconnect():
            return reach.disconnect(host, prepared)
        case control_step.Prompt():
            return reach.prompt(wanted.text, echo=wanted.echo)
        case control_step.Now():
            return time.time()
        case control_step.Kept():
            return kept_files.digest_of(Path(wanted.folder), wanted.names)
        case control_step.Keep():
            return kept_files.keep(
                Path(wanted.folder), wanted.names, wanted.content, first=wanted.first,
                last=wanted.last, sha1=wanted.sha1, host=host,
            )  # fmt: skip
    raise AssertionError(f"no answer to {wanted}")


def _on_host(
    wanted: control_step.OnHost, reach: Reach, host: str, prepared: Prepared, call: Call
) -> Result:
    spec = catalog.spec_of(wanted.module)
    one = replace(call, module=wanted.module, args=typed_arguments(wanted.args, spec), check=False)
    answers: list[Result] = []
    try:
        session = reach.session(host, prepared)
        group = {"tasks": [one.as_data()], "goes_on": True}
        session.run([group], {}, lambda _, result: answers.append(result))
    except HostError as error:
        return lost(error)
    return answers[0] if answers else {"failed": True, "msg": "the host did not answer"}


def lost(error: HostError) -> Result:
    """The result of a task whose host could not be asked."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    result: Result = {"failed": True, "changed": False, "msg": message}
    if isinstance(error, HostUnreachable):
        result["unreachable"] = True
    return result
