"""What makes a cluster send its log: the files of an audit webhook, and what is printed for each
platform."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from audit_log import event
from conftest import Command, Ran, program
from kubewitness.config.credential import new_identity
from kubewitness.config.platform import PLATFORMS
from kubewitness.config.reading import configuration, read
from kubewitness.config.webhook import FOLDER, flags
from kubewitness.policy.reading import detection_policy, read_policy

HEADERS = (
    Path(__file__).parents[2]
    / "shared/data/capture/webhook/https_token_batch_policy_a/001.headers.txt"
)
KUBECTL = shutil.which("kubectl")


def made(kubewitness: Command, folder: Path, *more: str | Path) -> Ran:
    """``init webhook``, with everything generated."""
    return kubewitness(
        *("init", "webhook", folder, "--cluster", "prod"),
        *("--server", "https://127.0.0.1:18443", "--generate", *more),
    )


def used(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cluster and the user of a kubeconfig's current context, as client-go finds them: relative
    files lie beside it."""
    config = yaml.safe_load(path.read_text())
    assert (config["apiVersion"], config["kind"]) == ("v1", "Config")
    by_name = {kind: {one["name"]: one for one in config[kind]} for kind in
               ("clusters", "users", "contexts")}  # fmt: skip
    context = by_name["contexts"][config["current-context"]]["context"]
    cluster = by_name["clusters"][context["cluster"]]["cluster"]
    user = by_name["users"][context["user"]]["user"]
    return cluster, {key: (path.parent / value).read_text() for key, value in user.items()}


@contextmanager
def listening(folder: Path) -> Iterator[tuple[int, list[Any]]]:
    """A server with the certificate of ``receiver``, and the requests that it gets."""
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "receiver/server.crt", folder / "receiver/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_both_ends_fit_together(kubewitness: Command, tmp_path: Path) -> None:
    done = made(kubewitness, tmp_path / "webhook")
    assert done.code == 0, done.talk
    cluster, user = used(tmp_path / "webhook/control-plane/kubeconfig.yaml")
    assert cluster["server"] == "https://127.0.0.1:18443/audit/prod"
    found = configuration(tmp_path / "webhook/receiver/serve.yaml", environment={}, overrides={})
    assert found.warnings == ()
    settings = found.settings
    assert settings.clusters[0].token_file is not None
    assert settings.clusters[0].token_file.read_text() == user["tokenFile"]
    assert settings.listen is not None
    assert settings.listen.tls is not None
    assert settings.listen.port == 18443
    policy = tmp_path / "webhook/control-plane/policy.yaml"
    assert policy.read_text() == detection_policy()
    assert read_policy(policy).rules


def test_a_client_that_has_the_kubeconfig_trusts_the_receiver(
    kubewitness: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "webhook"
    made(kubewitness, folder)
    cluster, user = used(folder / "control-plane/kubeconfig.yaml")
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    url = urlsplit(cluster["server"])
    with listening(folder) as (port, requests):
        connection = HTTPSConnection(
            url.hostname or "", port, context=ssl.create_default_context(cadata=authority)
        )
        connection.request(
            "GET", url.path, headers={"Authorization": f"Bearer {user['tokenFile']}"}
        )
        assert connection.getresponse().status == 200
        connection.close()
        stranger = HTTPSConnection("127.0.0.1", port, context=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.request("GET", url.path)
        stranger.close()
        elsewhere = ssl.create_default_context(cadata=authority)
        named = HTTPSConnection("localhost", port, context=elsewhere)
        with pytest.raises(ssl.SSLCertVerificationError):
            named.request("GET", url.path)
        named.close()
    assert [path for path, _ in requests] == ["/audit/prod"]


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not here")
def test_kubernetes_own_client_reads_the_kubeconfig(kubewitness: Command, tmp_path: Path) -> None:
    """kubectl has the client-go that the API server loads the file with."""
    assert KUBECTL
    folder = tmp_path / "webhook"
    made(kubewitness, folder)
    path = folder / "control-plane/kubeconfig.yaml"
    token = (folder / "control-plane/token").read_text()
    with listening(folder) as (port, requests):
        path.write_text(path.read_text().replace(":18443", f":{port}"))
        done = subprocess.run(
            [KUBECTL, "--kubeconfig", str(path), "get", "--raw", "/anything"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert {headers["Authorization"] for _, headers in requests} == {f"Bearer {token}"}


@pytest.mark.skipif(not HEADERS.exists(), reason="the shared data is not here")
def test_the_kubeconfig_is_what_a_real_api_server_was_given(
    kubewitness: Command, tmp_path: Path
) -> None:
    """What is in it comes out as the request line and the token of a recorded request."""
    token = tmp_path / "token"
    token.write_text("fixture-token-123\n")
    kubewitness(
        *("init", "webhook", tmp_path / "webhook", "--cluster", "prod"),
        *("--server", "https://127.0.0.1:9800/v1/audit", "--token-file", token),
    )
    cluster, user = used(tmp_path / "webhook/control-plane/kubeconfig.yaml")
    url = urlsplit(cluster["server"])
    recorded = HEADERS.read_text().splitlines()
    assert recorded[0] == f"POST {url.path}?timeout=30s HTTP/1.1"
    assert f"Host: {url.netloc}" in recorded
    assert f"Authorization: Bearer {user['tokenFile']}" in recorded


def test_a_service_that_is_told_so_takes_what_is_sent_so(
    kubewitness: Command, tmp_path: Path
) -> None:
    """Both folders as they were written, and the service itself between them."""
    folder = tmp_path / "webhook"
    made(kubewitness, folder)
    cluster, user = used(folder / "control-plane/kubeconfig.yaml")
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    body = json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [event()]})
    serve = program("serve", "--config", folder / "receiver/serve.yaml", "--set", "listen.port=0")
    with subprocess.Popen(
        [*serve, "--set", "admin=null"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as running:
        try:
            assert running.stderr is not None
            port = next(int(line.split()[-1]) for line in running.stderr if "at port" in line)
            answers = []
            for token in (user["tokenFile"], "another"):
                connection = HTTPSConnection(
                    "127.0.0.1", port, context=ssl.create_default_context(cadata=authority)
                )
                headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
                connection.request("POST", urlsplit(cluster["server"]).path, body, headers)
                answers.append(connection.getresponse().status)
                connection.close()
        finally:
            running.terminate()
            running.communicate(timeout=60)
    assert answers == [200, 401]


def test_files_are_for_their_owner_and_never_replaced(kubewitness: Command, tmp_path: Path) -> None:
    folder = tmp_path / "webhook"
    done = made(kubewitness, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    token = (folder / "receiver/token").read_text()
    assert token not in done.text + done.talk
    again = made(kubewitness, folder)
    assert again.code == 1
    assert "is there already" in again.talk
    assert (folder / "receiver/token").read_text() == token
    shutil.rmtree(folder / "receiver")
    assert made(kubewitness, folder).code == 1
    assert not (folder / "receiver").exists()


def test_tokens_are_not_made_twice(kubewitness: Command, tmp_path: Path) -> None:
    tokens = set()
    for name in "ab":
        made(kubewitness, tmp_path / name)
        tokens.add((tmp_path / name / "receiver/token").read_text())
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 43


def test_a_client_certificate_is_taken_instead_of_a_token(
    kubewitness: Command, tmp_path: Path
) -> None:
    identity = new_identity("api.prod.example")
    (tmp_path / "client.crt").write_text(identity.certificate)
    (tmp_path / "client.key").write_text(identity.key)
    (tmp_path / "ca.crt").write_text(identity.authority)
    done = kubewitness(
        *("init", "webhook", tmp_path / "webhook", "--cluster", "prod"),
        *("--server", "https://witness.example:8443/prod"),
        *("--client-certificate", tmp_path / "client.crt"),
        *("--client-key", tmp_path / "client.key", "--ca", tmp_path / "ca.crt"),
    )
    assert done.code == 0, done.talk
    cluster, user = used(tmp_path / "webhook/control-plane/kubeconfig.yaml")
    assert user == {"client-certificate": identity.certificate, "client-key": identity.key}
    assert base64.b64decode(cluster["certificate-authority-data"]).decode() == identity.authority
    told = yaml.safe_load((tmp_path / "webhook/receiver/serve.yaml").read_text())
    assert told["clusters"] == [{"name": "prod", "path": "/prod", "client": "kubewitness"}]
    assert told["listen"]["address"] == "0.0.0.0"
    assert told["listen"]["tls"]["client_ca"] == "client-ca.crt"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say what the API server shows"),
        (("--generate", "--client-key", "FILE"), "go together"),
        (
            ("--token-file", "FILE", "--client-key", "FILE", "--client-certificate", "FILE"),
            "not both",
        ),
        (("--generate", "--server", "http://127.0.0.1"), "is no URL like https"),
        (("--generate", "--server", "https://a?b=c"), "is no URL like https"),
        (("--generate", "--server", "https://me@a"), "is no URL like https"),
        (("--generate", "--server", "https://[a"), "is no URL like https"),
        (("--generate", "--cluster", "a b"), "is no name of a cluster"),
    ],
)
def test_what_does_not_fit_is_a_mistake_of_usage(
    options: tuple[str, ...], said: str, kubewitness: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    given = [str(tmp_path / "file") if one == "FILE" else one for one in options]
    done = kubewitness(
        *("init", "webhook", tmp_path / "w", "--cluster", "prod", "--server", "https://a"), *given
    )
    assert done.code == 2
    assert said in " ".join(done.talk.split())
    assert not (tmp_path / "w").exists()


def test_a_token_that_is_none_is_refused(kubewitness: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two words")
    done = kubewitness(
        *("init", "webhook", tmp_path / "w", "--cluster", "prod", "--server", "https://a"),
        *("--token-file", tmp_path / "token"),
    )
    assert done.code == 1
    assert "no bearer token" in done.talk
    assert not (tmp_path / "w").exists()


# Platforms


def given_flags(platform: str) -> dict[str, str]:
    """The flags that a printed text gives to kube-apiserver."""
    text = PLATFORMS[platform]()
    if platform == "flags":
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return dict(line.removeprefix("--").split("=", 1) for line in lines)
    document = yaml.safe_load(text)
    if platform == "kind":
        (node,) = document["nodes"]
        document = yaml.safe_load(node["kubeadmConfigPatches"][1])
    if platform in ("kind", "kubeadm"):
        assert document["kind"] == "ClusterConfiguration"
        assert document["apiVersion"] == "kubeadm.k8s.io/v1beta4"
        return {one["name"]: one["value"] for one in document["apiServer"]["extraArgs"]}
    found = dict(one.split("=", 1) for one in document["kube-apiserver-arg"])
    if "audit-policy-file" in document:
        found["audit-policy-file"] = document["audit-policy-file"]
    return found


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_gives_the_same_flags(platform: str) -> None:
    assert given_flags(platform) == {flag.name: flag.value for flag in flags()}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_is_printed_for_a_platform(
    platform: str, kubewitness: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    done = made(kubewitness, tmp_path / "webhook", "--for", platform)
    assert done.text == PLATFORMS[platform]()
    assert done.text == snapshot


def test_the_folder_is_mounted_where_the_flags_look_for_it() -> None:
    (volume,) = yaml.safe_load(PLATFORMS["kubeadm"]())["apiServer"]["extraVolumes"]
    assert (volume["hostPath"], volume["mountPath"], volume["readOnly"]) == (FOLDER, FOLDER, True)
    (node,) = yaml.safe_load(PLATFORMS["kind"]())["nodes"]
    assert node["extraMounts"][0]["containerPath"] == FOLDER
    third = yaml.safe_load(node["kubeadmConfigPatches"][0])
    assert third["apiVersion"] == "kubeadm.k8s.io/v1beta3"
    assert third["apiServer"]["extraArgs"] == {flag.name: flag.value for flag in flags()}
    assert third["apiServer"]["extraVolumes"] == [volume]
    assert yaml.safe_load(PLATFORMS["rke2"]())["kube-apiserver-extra-mount"] == [
        f"{FOLDER}:{FOLDER}:ro"
    ]
    files = {flag.value for flag in flags() if flag.value.startswith("/")}
    assert files == {f"{FOLDER}/policy.yaml", f"{FOLDER}/kubeconfig.yaml"}


@pytest.mark.parametrize("platform", ["eks", "gke", "aks"])
def test_what_is_printed_for_a_managed_cluster_can_be_taken(
    platform: str, kubewitness: Command, tmp_path: Path
) -> None:
    path = tmp_path / "serve.yaml"
    path.write_bytes(kubewitness("init", "feed", platform).out)
    secret = tmp_path / "event-hub-connection"
    secret.write_text("Endpoint=sb://namespace.servicebus.windows.net/;SharedAccessKey=x")
    secret.chmod(0o600)
    (cluster,) = read(path, environment={}, overrides={}).clusters
    assert cluster.buckets or cluster.kafka
