"""What bootstrap's playbook is given of each host, and where it gets certificates and secrets.

Invariant: no secret is a variable. What all members share is had by a lookup, where it is written,
in tasks with `no_log`; a host's own key is on the host alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import IdentityError
from sappers.model.image import ImageKey
from sappers.provisioner.bootstrap.apt import Apt
from sappers.provisioner.bootstrap.bundle import Bundle
from sappers.provisioner.bootstrap.founding import Founding
from sappers.provisioner.bootstrap.packages import packages_for
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.repair_key import healers_account, healers_line
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.bootstrap.units import (
    fingerprint,
    plan_settings,
    role_source,
    unit_values,
)
from sappers.provisioner.control.identity import ControlIdentity
from sappers.provisioner.places import PLAYBOOKS
from sappers.provisioner.playbook.templates.lookup_values import Lookup


class MemberValues:
    """Values by host. What takes time or is not known yet is a function, called when asked for."""

    def __init__(
        self,
        plan: ClusterPlan,
        identity: ControlIdentity | None,
        founding: Callable[[], Founding],
        image_key: ImageKey | None,
        repair_key: str | None,
        bundle: Callable[[], Bundle],
        apt: Apt,
        playbooks: Path = PLAYBOOKS,
    ) -> None:
        """Make it.

        Args:
            plan: The cluster's.
            identity: None only in check mode, before the first real run.
            founding: Decides, once.
            image_key: Whose images the cluster runs from its beginning, if anyone's.
            repair_key: The public part; None only in check mode, before the first real run.
            bundle: Waits until it is built; raises BundleError.
            apt: Where packages come from.
            playbooks: The folder of the playbook that is run.
        """
        self._plan = plan
        self._identity = identity
        self._founding = founding
        self._image_keys = (image_key,) if image_key else ()
        self._repair_key = repair_key
        self._bundle = bundle
        self._apt = apt
        self._source = role_source(playbooks)

    def given(self, host: HostRun) -> dict[str, Any]:
        """The variables of a host; docs/playbooks.md lists them."""
        wanted = packages_for(host.member)
        settled = host.settled
        return {
            **unit_values(),
            "sappers_missing": [name for name in wanted if name not in host.facts.packages],
            "sappers_apt_proxy": lambda: host.during_play.enter_context(self._apt.proxy(host)),
            "sappers_node_id": settled.node_id,
            "sappers_sign": self._must_sign(host),
            "sappers_healers_user": healers_account(host)[0],
            "sappers_healers_line": healers_line(self._repair_key, settled.node_id),
            "sappers_python": host.facts.python_path,
            "sappers_bundle": lambda: str(self._bundle().path),
            "sappers_version": lambda: self._version(host),
            "sappers_before": settled.version,
            "sappers_settings": lambda: msgspec.to_builtins(self._settings(host)),
            "sappers_running": host.running,
            "sappers_started_with": settled.started_with,
            "sappers_fingerprint": lambda: self.fingerprint(host),
        }

    def lookups(self, host: HostRun) -> Mapping[str, Lookup]:
        """Both lookups, for one host."""

        def certificate(terms: list[Any], **_: Any) -> list[Any]:
            if self._identity is None or host.check:
                return [""]
            try:
                host.certificate = self._identity.sign_agent(
                    str(terms[0]).encode(), host.settled.node_id, host.member.address
                )
            except IdentityError as error:
                raise ValueError(error.message) from error
            return [host.certificate.decode()]

        def secret(terms: list[Any], **_: Any) -> list[Any]:
            shared = self._shared()
            return [shared.get(str(term), b"").decode() for term in terms]

        return {"sappers_certificate": certificate, "sappers_secret": secret}

    def fingerprint(self, host: HostRun) -> str:
        """What the host's agent is to run with, as one digest."""
        identity = b"\0".join((host.certificate, *self._shared().values()))
        return fingerprint(
            self._settings(host),
            version=self._version(host),
            identity_digest=hashlib.sha256(identity).hexdigest(),
            source=self._source,
        )

    def is_outdated(self, host: HostRun) -> bool:
        """Whether the host's agent runs with something else."""
        return host.running and host.settled.started_with != self.fingerprint(host)

    def _must_sign(self, host: HostRun) -> bool:
        found = host.settled.certificate
        if self._identity is None or not found:
            return True
        return self._identity.renewal_of(found, host.member.address) is not None

    def _version(self, host: HostRun) -> str:
        return f"{self._bundle().digest[:12]}-py3{host.facts.python_version[1]}"

    def _settings(self, host: HostRun) -> Any:
        return plan_settings(self._plan, self._founding(), host.name, self._image_keys)

    def _shared(self) -> dict[str, bytes]:
        """What all members have in common; in check mode before the first real run nothing."""
        if self._identity is None:
            return {}
        hub = self._identity.hub
        return {
            "ca.pem": self._identity.authority.cert_pem,
            "gossip.key": self._identity.gossip_key.encode(),
            "hub.seed": hub.account_seed.encode(),
            "operator.jwt": hub.operator_jwt.encode(),
            "account.jwt": hub.account_jwt.encode(),
        }
