"""What `sappers-deploy` is made of: which adapter stands behind which of bootstrap's needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

import msgspec

import sappers
from sappers.api.image_calls import ImageCalls
from sappers.api.image_push import ImagePush, MemberShare
from sappers.api.operator_client import OperatorClient
from sappers.api.problems import decoded
from sappers.api.ways import Endpoint, ask_all
from sappers.api.wire import RepairAccess, WantedRepairKey
from sappers.assembly.images import LocalImages
from sappers.config import ControlHome
from sappers.errors import ApiError, ImageError, MemberUnreachable
from sappers.hub.credentials import create_hub_account
from sappers.model.image import ImageKey, build_command
from sappers.model.repair import KnownAccess, RepairKey, RepairLogin
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.bootstrap import Needs
from sappers.provisioner.bootstrap.bundle import Bundle, build_bundle, find_sources
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.control.identity import HubSecrets
from sappers.provisioner.control.record import OPERATOR_CERTIFICATE_FILE, OPERATOR_KEY_FILE
from sappers.security.identity import load_identity

_HEALTH_SECONDS = 5.0


@contextmanager
def deploy_wiring(home: ControlHome, plan: ClusterPlan) -> Iterator[Needs]:
    """What bootstrap needs, on real parts; connections to agents close with the block."""

    def build(report: Callable[[str], None]) -> Bundle:
        sources = find_sources(Path(sappers.__file__).parent)
        return build_bundle(sources, home.cache / "bundles", report)

    where = home.cluster(plan.name), plan.ports.http
    # Apart: images are pushed while members are asked how they are.
    with _Clients(*where) as of_images, _Clients(*where) as of_each:
        images = PushedImages(LocalImages(home), of_images)
        yield Needs(
            build_bundle=build,
            create_hub=_create_hub,
            images=images,
            repair_key=images,
            probe=ApiProbe(of_each),
        )


def _create_hub(cluster: str) -> HubSecrets:
    account = create_hub_account(cluster)
    return HubSecrets(account.operator_jwt, account.account_jwt, account.account_seed)


class _Clients:
    """Clients of members, through their hosts' SSH connections where the port is closed."""

    def __init__(self, folder: Path, port: int) -> None:
        """`folder` is the cluster's, with the operator's certificate once a run has made it."""
        self._folder = folder
        self._port = port
        self._lock = threading.Lock()
        self._open: dict[tuple[str, ...], OperatorClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._open.values():
            client.close()

    def of(self, hosts: Sequence[HostRun]) -> OperatorClient:
        """The one of these hosts' members; several threads may ask."""
        names = tuple(host.name for host in hosts)
        with self._lock:
            if names not in self._open:
                self._open[names] = self._made({host.name: host for host in hosts})
            return self._open[names]

    def _made(self, hosts: Mapping[str, HostRun]) -> OperatorClient:
        def forward(endpoint: Endpoint) -> AbstractContextManager[tuple[str, int]]:
            host = hosts.get(endpoint.name)
            if host is None or host.connection is None:
                raise MemberUnreachable(f"{endpoint.name} has no SSH connection")
            return host.connection.open_forward((endpoint.address, endpoint.port))

        identity = load_identity(
            self._folder, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE
        )
        endpoints = [
            Endpoint(host.name, host.member.address, self._port, host.node_id)
            for host in hosts.values()
        ]
        return OperatorClient(identity, endpoints, open_forward=forward)


class PushedImages:
    """What goes to the cluster over its API; satisfies `ClusterImages` and `ClusterRepairKey`."""

    def __init__(self, local: LocalImages, clients: _Clients) -> None:
        self._local = local
        self._clients = clients

    def own_key(self, *, create: bool) -> ImageKey | None:
        """As the port says."""
        return self._local.own_key(create=create)

    def wanted(self, names: Sequence[str] | None) -> Mapping[str, str]:
        """As the port says."""
        store = self._local.store
        named = store.named()
        unknown = sorted(set(names or ()) - set(named))
        if unknown:
            raise ImageError(
                f"no image {', '.join(unknown)}, which sappers_images names",
                hint=build_command(unknown[0]),
            )
        found: dict[str, str] = {}
        for name, digest in named.items():
            manifest = store.manifest(digest)
            if names is not None and name not in names:
                continue
            if manifest is None or store.missing_chunks(digest):
                raise ImageError(f"image {name} is damaged here", hint=build_command(name))
            # A host's image becomes a member: the members have no use for it themselves.
            if names is not None or manifest.kind != "appliance":
                found[name] = digest
        return found

    def is_trusted(self, hosts: Sequence[HostRun], key: ImageKey) -> bool:
        """As the port says."""
        keys = ImageCalls(self._clients.of(hosts)).keys().keys
        return key.key in {one.key for one in keys}

    def trust(self, hosts: Sequence[HostRun], key: ImageKey) -> None:
        """As the port says."""
        ImageCalls(self._clients.of(hosts)).trust(key)

    def lacking(self, hosts: Sequence[HostRun], digests: Sequence[str]) -> Sequence[str]:
        """As the port says."""
        client = self._clients.of(hosts)
        calls = ImageCalls(client)
        whole = set(digests)
        for answer in ask_all(client.everyone(), calls.images_at).values():
            if isinstance(answer, ApiError):
                raise answer
            whole &= {
                one.image.digest
                for one in answer.images
                if one.chunks and one.chunks_here >= one.chunks
            }
        return [digest for digest in digests if digest not in whole]

    def push(self, hosts: Sequence[HostRun], digest: str, note: Callable[[str], None]) -> None:
        """As the port says."""
        ImagePush(self._clients.of(hosts), self._local.store, _Notes(note)).push(digest)

    def repair_access(self, hosts: Sequence[HostRun]) -> KnownAccess:
        """As the port says."""
        found = decoded(self._clients.of(hosts).call("GET", "/v1/repair-key"), RepairAccess)
        return KnownAccess(found.public, found.logins, found.image_keys, found.number)

    def give_repair_key(
        self, hosts: Sequence[HostRun], key: RepairKey, logins: Sequence[RepairLogin]
    ) -> None:
        """As the port says."""
        wanted = WantedRepairKey(
            key.public, key.sealed, tuple(logins), key.image_keys, key.signature, key.number
        )
        self._clients.of(hosts).call("PUT", "/v1/repair-key", content=msgspec.json.encode(wanted))


class _Notes:
    """A push as bootstrap's one line; satisfies `PushWatcher`."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def sending(self, content_bytes: int) -> None:
        self._note(f"sending {content_bytes / 2**20:.1f} MiB of images")

    def sent(self, content_bytes: int) -> None:
        pass

    def spread(self, members: Sequence[MemberShare]) -> None:
        whole = sum(one.is_whole for one in members)
        self._note(f"images: {whole} of {len(members)} members have them whole")


class ApiProbe:
    """Asks agents over the HTTP API."""

    def __init__(self, clients: _Clients) -> None:
        self._clients = clients

    def health(self, host: HostRun) -> MemberHealth:
        """What this host's agent says of itself. Raises as the port says."""
        answer = self._clients.of([host]).call("GET", "/v1/health", timeout_seconds=_HEALTH_SECONDS)
        return decoded(answer, MemberHealth)
