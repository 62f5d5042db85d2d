"""What makes an API server send its audit log: a kubeconfig, a policy, and flags.

The files of the two ends are written into two folders: ``control-plane`` goes to each node that has
an API server, ``receiver`` to kubewitness. Sources: k8s.io/apiserver, plugin/pkg/audit/webhook and
pkg/server/options/audit.go.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult

import yaml

from kubewitness.config import material
from kubewitness.config.inquiry import is_name, loopback, url_of
from kubewitness.config.settings import Cluster, audit_path
from kubewitness.errors import KubewitnessError

FOLDER = "/etc/kubernetes/kubewitness"
"""Where ``control-plane`` lies on a node."""


class Flag(NamedTuple):
    """A flag of kube-apiserver, without its dashes."""

    name: str
    value: str
    why: str


def flags(folder: str = FOLDER) -> tuple[Flag, ...]:
    """The flags of kube-apiserver. What is not among them is best left as it is: batches of up to
    400 events, ten a second."""
    return (
        Flag("audit-policy-file", f"{folder}/policy.yaml", "what is logged"),
        Flag("audit-webhook-config-file", f"{folder}/kubeconfig.yaml", "where to, and as whom"),
        Flag(
            "audit-webhook-batch-max-wait",
            "1s",
            "an event waits no longer for its batch to fill (default 30s)",
        ),
        Flag(
            "audit-webhook-batch-buffer-size",
            "20000",
            "a burst of so many events is not lost (default 10000)",
        ),
        Flag(
            "audit-webhook-initial-backoff",
            "30s",
            "a batch is tried five times, each wait half as long again as the last, and then lost:"
            " this outlasts four minutes without a receiver (default 10s: 80 seconds)",
        ),
        Flag(
            "audit-webhook-truncate-enabled",
            "true",
            "batches stay below 10 MiB; a larger one is split",
        ),
        Flag(
            "audit-webhook-truncate-max-event-size",
            "1048576",
            "an event larger than this loses its bodies (default 100 KiB)",
        ),
    )


class Credential(NamedTuple):
    """What an API server shows: a ``token``, or a client ``certificate`` and its ``key`` (PEM)."""

    token: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def files(self) -> dict[str, str]:
        """As files, by the key that names them in a kubeconfig."""
        found = {
            "tokenFile": self.token,
            "client-certificate": self.certificate,
            "client-key": self.key,
        }
        return {key: text for key, text in found.items() if text}


_NAMES = {
    "tokenFile": "token",
    "client-certificate": "client.crt",
    "client-key": "client.key",
}


def server_url(text: str, cluster: str) -> str:
    """Where the API server of ``cluster`` posts to: ``text``, with the usual path if it has none.

    Raises ``ValueError`` for anything but https, as an API server shows no token over http.

    >>> server_url("https://witness.example:8443", "prod")
    'https://witness.example:8443/audit/prod'
    """
    if not is_name(cluster):
        raise ValueError(f"{cluster!r} is no name of a cluster")
    url = url_of(text)
    if url.scheme != "https" or not url.hostname or url.query or url.username:
        raise ValueError(f"{text!r} is no URL like https://witness.example:8443")
    path = url.path.rstrip("/") or audit_path(Cluster(name=cluster))
    return SplitResult(url.scheme, url.netloc, path, "", "").geturl()


def kubeconfig(cluster: str, server: str, *, authority: str, credential: Credential) -> str:
    """The file for ``--audit-webhook-config-file``. The credential lies beside it."""
    reached: dict[str, Any] = {"server": server}
    if authority:
        reached["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubewitness", "cluster": reached}],
        "users": [{"name": cluster, "user": {key: _NAMES[key] for key in credential.files}}],
        "contexts": [
            {"name": "kubewitness", "context": {"cluster": "kubewitness", "user": cluster}}
        ],
        "current-context": "kubewitness",
    }
    return yaml.safe_dump(config, sort_keys=False, width=1 << 20)


def control_plane(
    cluster: str, server: str, *, authority: str, credential: Credential, policy: str
) -> dict[str, str]:
    """The files for each node that has an API server, by name."""
    return {
        "kubeconfig.yaml": kubeconfig(cluster, server, authority=authority, credential=credential),
        "policy.yaml": policy,
        **{_NAMES[key]: text for key, text in credential.files.items()},
    }


def receiver(cluster: str, server: str, *, client: str, token: bool) -> str:
    """A configuration of kubewitness that takes what the API server sends; the files that it names
    lie beside it. ``client`` is the name in the API server's certificate."""
    url = url_of(server)
    listen: dict[str, Any] = {
        "address": "127.0.0.1" if loopback(url.hostname or "") else "0.0.0.0",
        "port": url.port or 443,
        "tls": {"certificate": "server.crt", "key": "server.key"},
    }
    if client:
        listen["tls"]["client_ca"] = "client-ca.crt"
    sender: dict[str, str] = {"name": cluster}
    if url.path != audit_path(Cluster(name=cluster)):
        sender["path"] = url.path
    if token:
        sender["token_file"] = "token"
    if client:
        sender["client"] = client
    config = {
        "data": "data",
        "listen": listen,
        "clusters": [sender],
        "sinks": [{"name": "console", "type": "stdout"}],
    }
    return yaml.safe_dump(config, sort_keys=False)


def connect(
    folder: Path,
    cluster: str,
    server: str,
    *,
    policy: str,
    token: Path | None = None,
    client: tuple[Path, Path] | None = None,
    authority: Path | None = None,
    generate: bool = False,
) -> list[Path]:
    """Write ``control-plane`` and ``receiver`` into ``folder``, and say which files these are.

    ``server`` is as of ``server_url``, ``client`` a certificate and its key, ``authority`` the CA
    that ``server`` is known by; with ``generate``, a token and a certificate of ``server`` are
    made where they are not given. Nothing is replaced. Raises ``KubewitnessError``.
    """
    from kubewitness.config.credential import common_name, new_identity, new_token

    shown = Credential(
        token=_read(token, material.token) if token else "",
        certificate=_read(client[0], material.text) if client else "",
        key=_read(client[1], material.text) if client else "",
    )
    if generate and not client and not token:
        shown = Credential(token=new_token())
    known = _read(authority, material.text) if authority else ""
    url = url_of(server)
    received: dict[str, str] = {}
    if generate and not authority:
        identity = new_identity(url.hostname or "")
        known = identity.authority
        received = {"server.crt": identity.certificate, "server.key": identity.key}
    if shown.token:
        received["token"] = shown.token
    configuration = receiver(
        cluster,
        server,
        client=_read(client[0], lambda path: common_name(material.text(path))) if client else "",
        token=bool(shown.token),
    )
    files = {
        f"control-plane/{name}": text
        for name, text in control_plane(
            cluster, server, authority=known, credential=shown, policy=policy
        ).items()
    }
    files |= {f"receiver/{name}": text for name, text in received.items()}
    files["receiver/serve.yaml"] = configuration
    write(folder, files)
    return [folder / name for name in files]


def _read(path: Path, ask: Callable[[Path], str]) -> str:
    try:
        return ask(path)
    except ValueError as error:
        raise KubewitnessError(str(error), where=str(path)) from None


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write ``files`` (paths in ``folder``) for their owner alone. Nothing is replaced: a token
    that is in use would be lost. Raises ``KubewitnessError``."""
    for name in files:
        if os.path.lexists(folder / name):
            raise KubewitnessError(
                "is there already, and would be replaced",
                where=str(folder / name),
                remedy="name another folder, or move this file away",
            )
    for name, text in files.items():
        target = folder / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
