"""What `sappers-deploy` is made of: which adapter stands behind which of bootstrap's needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

import sappers
from sappers.api.operator_client import Endpoint, OperatorClient
from sappers.config import ControlHome
from sappers.errors import ApiError, ImageError, MemberUnreachable
from sappers.hub.credentials import create_hub_account
from sappers.images.store import FolderImageStore
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap import Needs
from sappers.provisioner.bundle import Bundle, build_bundle, find_sources
from sappers.provisioner.cluster_record import OPERATOR_CERTIFICATE_FILE, OPERATOR_KEY_FILE
from sappers.provisioner.control_identity import HubSecrets
from sappers.provisioner.plan import ClusterPlan
from sappers.provisioner.run import HostRun
from sappers.security.identity import load_identity

_HEALTH_SECONDS = 5.0


@contextmanager
def deploy_wiring(home: ControlHome, plan: ClusterPlan) -> Iterator[Needs]:
    """What bootstrap needs, on real parts; connections to agents close with the block."""

    def build(report: Callable[[str], None]) -> Bundle:
        sources = find_sources(Path(sappers.__file__).parent)
        return build_bundle(sources, home.cache / "bundles", report)

    with ApiProbe(home.cluster(plan.name), plan.ports.http) as probe:
        yield Needs(
            build_bundle=build,
            create_hub=_create_hub,
            images=StoredImages(FolderImageStore(home.images)),
            probe=probe,
        )


def _create_hub(cluster: str) -> HubSecrets:
    account = create_hub_account(cluster)
    return HubSecrets(account.operator_jwt, account.account_jwt, account.account_seed)


class StoredImages:
    """The control machine's image store as bootstrap's source of images."""

    def __init__(self, store: FolderImageStore) -> None:
        self._store = store

    def files(self, names: Sequence[str] | None) -> Mapping[str, Path]:
        """Manifests and blobs by their place below a store's folder.

        Raises:
            ImageError: There is no image of such a name, or a file of it is missing.
        """
        named = self._store.named()
        unknown = sorted(set(names or ()) - set(named))
        if unknown:
            raise ImageError(
                f"no image {', '.join(unknown)}, which sappers_images names",
                hint=f"sappers-deploy image build {unknown[0]}",
            )
        found: dict[str, Path] = {}
        for name, digest in named.items():
            if names is not None and name not in names:
                continue
            if lacking := self._store.missing(digest):
                raise ImageError(
                    f"image {name} lacks {', '.join(one[:12] for one in lacking)}",
                    hint=f"sappers-deploy image build {name}",
                )
            manifest = self._store.manifest(digest)
            assert manifest is not None
            for one in (*(blob.digest for blob in manifest.blobs()), digest):
                found[f"blobs/sha256/{one}"] = self._store.blob_path(one)
        return found


class ApiProbe:
    """Asks agents over the HTTP API; through the host's SSH connection where the port is closed."""

    def __init__(self, folder: Path, port: int) -> None:
        """`folder` is the cluster's, with the operator's certificate once a run has made it."""
        self._folder = folder
        self._port = port
        self._lock = threading.Lock()
        self._clients: dict[str, OperatorClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients.values():
            client.close()

    def health(self, host: HostRun) -> MemberHealth:
        """What this host's agent says of itself. Raises as the port says."""
        answer = self._client(host).call("GET", "/v1/health", timeout_seconds=_HEALTH_SECONDS)
        try:
            return msgspec.json.decode(answer, type=MemberHealth)
        except msgspec.DecodeError as error:
            raise ApiError(f"{host.name} answers, but not as an agent does") from error

    def _client(self, host: HostRun) -> OperatorClient:
        with self._lock:
            if host.name not in self._clients:
                self._clients[host.name] = self._open(host)
            return self._clients[host.name]

    def _open(self, host: HostRun) -> OperatorClient:
        connection = host.connection
        if connection is None:
            raise MemberUnreachable(f"{host.name} has no SSH connection")

        def forward(endpoint: Endpoint) -> AbstractContextManager[tuple[str, int]]:
            return connection.open_forward((endpoint.address, endpoint.port))

        identity = load_identity(
            self._folder, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE
        )
        endpoint = Endpoint(host.name, host.member.address, self._port, host.node_id)
        return OperatorClient(identity, [endpoint], open_forward=forward)
