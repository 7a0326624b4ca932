"""Every error Sappers raises on purpose: one root, one subclass per cause.

An error carries data (host, file, line, exit code) and two sentences: what happened, and what to
do about it (`hint`). Only `cli/` turns errors into exit codes and coloured text.
"""

from __future__ import annotations

# The hint where an agent's keys or settings are missing or damaged: it has them from one of two.
FIT_OUT_AGAIN = "run sappers-deploy bootstrap; an agent by hand: start it with --cluster-keys DIR"


class SappersError(Exception):
    """The root of all errors that are meant for a person.

    Attributes:
        message: What happened and where, one sentence.
        hint: What to do about it, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def explained(self) -> str:
        """What happened and what to do, where there is one line for both."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(SappersError, ValueError):
    """A setting or settings file is wrong."""


class BackupError(SappersError):
    """A backup's file is damaged, or there is none to be had."""


class SourceError(SappersError, ValueError):
    """A file written by a person cannot be read as meant.

    Attributes:
        problem: The message without the place.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (path, line, column) if part is not None)
        super().__init__(f"{place}: {message}", hint=hint)
        self.problem = message
        self.path = path
        self.line = line
        self.column = column


class InventoryError(SourceError):
    """An inventory, `host_vars` or `group_vars` file is wrong."""


class PlaybookError(SourceError):
    """A playbook, a role or a file that they name is wrong."""

    def in_task(self, name: object, place: object = "") -> PlaybookError:
        """The same, with the task that it is about: its name, if it has one, and where it is."""
        where = str(place or "")
        own = ":".join(str(one) for one in (self.path, self.line, self.column) if one is not None)
        at = f" at {where}" if where and where != own else ""
        if not (name or at):
            return self
        task = f"the task {str(name)!r}" if name else "the task"
        return PlaybookError(
            f"{self.problem}, in {task}{at}",
            path=self.path,
            line=self.line,
            column=self.column,
            hint=self.hint,
        )


class JournalError(SappersError):
    """A run's journal is damaged, cannot be written, or is of another run."""


class ImageDefinitionError(SourceError):
    """An image definition is wrong."""


class HostError(SappersError):
    """Something went wrong on, or on the way to, one host."""

    def __init__(self, host: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{host}: {message}", hint=hint)
        self.host = host


class HostUnreachable(HostError, ConnectionError):
    """No SSH session could be had: address, port, host key or login."""


class HostOffline(HostUnreachable):
    """Nobody answers at the host's address."""


class PrivilegeError(HostError, PermissionError):
    """The host refuses to let us become root."""


class HostUnfit(HostError):
    """The host lacks something that an agent needs (Python, room, time, a free port)."""


class CommandFailed(HostError):
    """A command ended with a non-zero exit code."""

    def __init__(
        self, host: str, command: str, exit_code: int, output: str, *, hint: str | None = None
    ) -> None:
        tail = output.strip()[-2000:]
        super().__init__(
            host, f"`{command}` ended with exit code {exit_code}: {tail or 'no output'}", hint=hint
        )
        self.command = command
        self.exit_code = exit_code
        self.output = output


class LockHeld(SappersError):
    """Another run works on the same cluster."""

    def __init__(self, what: str, holder: str, *, hint: str | None = None) -> None:
        super().__init__(f"{what} is locked by {holder}", hint=hint)
        self.holder = holder


class LabError(SappersError):
    """The lab could not be brought up or down."""


class ImageError(SappersError):
    """An image is missing, damaged or cannot be built."""


class ImagePartError(ImageError):
    """What an image's definition names is not to be had, or no good.

    Attributes:
        key: Where the definition names it: `application.packages`.
    """

    def __init__(self, message: str, *, key: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class ChunkDamaged(ImageError):
    """What somebody sent as a chunk, or a disk kept, is not its content."""


class ImageUntrusted(ImageError):
    """No trusted key signed an image.

    Attributes:
        keys: The public keys that truly signed it, 64 hex digits each.
    """

    def __init__(
        self, message: str, *, keys: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.keys = keys


class ImageIncomplete(ImageError):
    """Chunks of an image are not here, or were damaged and are dropped.

    Attributes:
        missing: Digests of all chunks that must be fetched.
    """

    def __init__(self, message: str, *, missing: tuple[str, ...], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class LaunchError(SappersError):
    """A guest could not be started or reached."""


class GuestMisbehaves(LaunchError):
    """A guest says what no sidecar says; nothing more of it is read."""


class PortTaken(LaunchError):
    """The port that a guest is published at is another's, or none of this host's."""


class CloneFailed(LaunchError):
    """What a template was restored to is no guest: the template is no good."""


class TemplateError(SappersError):
    """No guest can start from a template, or none can be made; a cold start can do without."""


class SupervisorError(SappersError):
    """A process could not be started, stopped or looked up."""


class HubError(SappersError):
    """The hub cannot be started or reached."""


class StreamFull(HubError):
    """A workload's stream of durable messages takes no more."""


class TokenRefused(HubError, PermissionError):
    """What should be settled is no message of this workload, whenever one asks."""


class ConsulError(SappersError):
    """Consul does not answer, or answers an error."""


class GatewayError(SappersError):
    """The gateway cannot be started, changed or reached."""


class MembershipError(SappersError):
    """Gossip could not be started."""


class StateInUse(SappersError):
    """Another agent has the STATE_DIR."""


class IdentityError(SappersError):
    """A key or certificate is missing, wrong or not ours."""


class ApiError(SappersError):
    """A member answered a call with an error.

    Attributes:
        status: The HTTP status, or 0 when no member answered.
    """

    def __init__(self, message: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class MemberUnreachable(ApiError, ConnectionError):
    """No connection to a member could be made, so nothing was asked of it."""


class MemberBusy(ApiError):
    """A member does as much for others as it may; it will have time again soon.

    Attributes:
        retry_after_seconds: When to ask again.
    """

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message, status=503)
        self.retry_after_seconds = retry_after_seconds


class NoQuorum(ApiError):
    """No leader can be found, or the leader cannot commit."""


class ProposalRejected(SappersError):
    """A command was definitely not committed; it may be proposed again."""


class OutcomeUnknown(SappersError):
    """A command may or may not have been committed; retry with the same request id."""


class CommandRefused(SappersError, ValueError):
    """The state machine refused a committed command (unknown name, stale term, conflict)."""


class UpgradeNeeded(SappersError):
    """The log is of a later format than this version knows: nothing more of it is applied here."""


class LogDamaged(SappersError):
    """A file of the replicated log is missing, torn in the middle or does not match."""


DAMAGED_HINT = (
    "if the other voters are well: sappers-deploy raft reseed MEMBER; this member votes again then,"
    " with what they give it. Otherwise put the folder back from a copy of the host's disk"
)
