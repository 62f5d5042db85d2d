"""Secrets never reach the disk or the screen, wherever in an event they stand."""

from __future__ import annotations

import base64
import io
import json
import re
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities import START
from audit_log import Event, event, lines
from kubewitness.analysis import analyze
from kubewitness.events.redaction import Redactor
from kubewitness.report import exports, html
from kubewitness.report.kept import save

KEY = b"k" * 32
MARK = re.compile(r"redacted:[0-9a-f]{12}")

tokens = st.text(string.ascii_letters + string.digits + "-_", min_size=12, max_size=40).map(
    lambda text: f"S3{text}9x"  # never a word that stands in an event anyway
)
# Passwords as people and generators make them.
passwords = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=6, max_size=30
).map(lambda text: f"S3{text}9x")


def encoded(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode()


def jwt(secret: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"1"}').decode().rstrip("=")
    return f"{head}.{secret}.{secret}"


def private_key(secret: str) -> str:
    return f"-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----\n"


def body(request: Any = None, response: Any = None) -> dict[str, Any]:
    return {"level": "RequestResponse", "requestObject": request, "responseObject": response}


def secret_object(**content: Any) -> dict[str, Any]:
    return {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db"}, **content}


def pod(container: dict[str, Any], where: str = "containers") -> dict[str, Any]:
    return {"kind": "Pod", "spec": {where: [{"name": "web", "image": "web:1", **container}]}}


def template(container: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Deployment", "spec": {"template": pod(container)}}


def variable(name: str, value: str) -> dict[str, Any]:
    return {"env": [{"name": "PLAIN", "value": "yes"}, {"name": name, "value": value}]}


def of_secret(request: Any = None, response: Any = None, verb: str = "create") -> Event:
    return event(START, "ada", verb, "secrets", name="db", **body(request, response))


def of_workload(request: Any, resource: str = "deployments") -> Event:
    return event(START, "ada", "create", resource, **body(request))


# Places where any text may stand.
STRUCTURED: dict[str, Callable[[str], Event]] = {
    "data": lambda s: of_secret(secret_object(data={"password": encoded(s)})),
    "data that is no base64": lambda s: of_secret(secret_object(data={"password": s})),
    "stringData": lambda s: of_secret(secret_object(stringData={"password": s})),
    "response": lambda s: of_secret(None, secret_object(data={"x": encoded(s)}), "get"),
    "list": lambda s: of_secret(
        None, {"kind": "SecretList", "items": [{"data": {"x": encoded(s)}}]}, "list"
    ),
    "a list of another kind": lambda s: event(
        resource="things", **body(None, {"items": [secret_object(stringData={"x": s})]})
    ),
    "merge patch": lambda s: of_secret({"stringData": {"x": s}}, verb="patch"),
    "JSON patch": lambda s: of_secret(
        [{"op": "replace", "path": "/data/x", "value": encoded(s)}], verb="patch"
    ),
    "JSON patch of all data": lambda s: of_secret(
        [{"op": "add", "path": "/data", "value": {"x": encoded(s)}}], verb="patch"
    ),
    "patch as text": lambda s: of_secret(json.dumps({"stringData": {"x": s}}), verb="patch"),
    "patch in YAML": lambda s: of_secret(f"stringData:\n  x: {s}\n", verb="patch"),
    "issued token": lambda s: event(
        verb="create",
        resource="serviceaccounts",
        subresource="token",
        **body({"kind": "TokenRequest", "spec": {}}, {"status": {"token": s}}),
    ),
    "issued token of a kind": lambda s: event(
        verb="create", resource="x", **body(None, {"kind": "TokenRequest", "status": {"token": s}})
    ),
    "reviewed token": lambda s: event(
        verb="create",
        resource="tokenreviews",
        group="authentication.k8s.io",
        **body({"kind": "TokenReview", "spec": {"token": s}}),
    ),
    "variable": lambda s: of_workload(template(variable("DB_PASSWORD", s))),
    "variable of a pod": lambda s: of_workload(pod(variable("API_TOKEN", s)), "pods"),
    "variable of an init container": lambda s: of_workload(
        pod(variable("AWS_SECRET_ACCESS_KEY", s), "initContainers"), "pods"
    ),
    "variable of an ephemeral container": lambda s: of_workload(
        pod(variable("apiKey", s), "ephemeralContainers"), "pods"
    ),
    "variable in a patch": lambda s: event(
        verb="patch", resource="deployments", **body({"spec": variable("MYSQL_PWD", s)})
    ),
    "variable, value first": lambda s: of_workload(
        pod({"env": [{"value": s, "name": "SESSION_SECRET"}]}), "pods"
    ),
    "applied secret": lambda s: of_secret(
        secret_object(
            metadata={
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": json.dumps(
                        secret_object(stringData={"x": s})
                    )
                }
            }
        )
    ),
    "applied secret, shown elsewhere": lambda s: event(
        resource="things",
        **body(None, {"last": json.dumps(secret_object(data={"x": encoded(s)}))}),
    ),
    "applied variable": lambda s: of_workload(
        {
            "metadata": {
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": json.dumps(
                        template(variable("DB_PASSWORD", s))
                    )
                }
            }
        }
    ),
    "field of a custom resource": lambda s: event(
        verb="create", resource="databases", **body({"spec": {"adminPassword": s}})
    ),
    "config map": lambda s: event(
        verb="create", resource="configmaps", **body({"data": {"DB_PASSWORD": s}})
    ),
    "patch of a webhook": lambda s: event(
        verb="create",
        resource="secrets",
        annotations={
            "patch.webhook.admission.k8s.io/round_0_index_0": json.dumps(
                {"patch": [{"op": "add", "path": "/data/x", "value": encoded(s)}]}
            )
        },
    ),
    "command": lambda s: event(
        verb="create",
        resource="pods",
        subresource="exec",
        query="&".join(f"command={quote(word, safe='')}" for word in ("sh", "-c", f"login {s}")),
    ),
    "command, its key encoded": lambda s: event(
        verb="get", resource="pods", subresource="exec", query=f"%63ommand={quote(s, safe='')}"
    ),
    "command of attach options": lambda s: event(
        verb="create",
        resource="pods",
        subresource="exec",
        **body({"kind": "PodExecOptions", "command": ["sh", "-c", f"login {s}"]}),
    ),
    "query": lambda s: event(query=f"access_token={quote(s, safe='')}&watch=true"),
    "private key": lambda s: of_workload(pod({"x": private_key(s)}), "pods"),
    "an encoded private key": lambda s: event(
        resource="configmaps", **body({"data": {"kubeconfig": encoded(private_key(s * 2))}})
    ),
    "a key escaped without need": lambda s: {
        **of_workload(None),
        "requestObject": {"ESCAPED": s},
    },
}
# Places where a secret is one word of a text.
SPOKEN: dict[str, Callable[[str], Event]] = {
    "URL": lambda s: of_workload(pod({"args": [f"postgres://app:{s}@db:5432/x"]}), "pods"),
    "URL in a variable": lambda s: of_workload(template(variable("DB", f"amqp://u:{s}@mq/"))),
    "header": lambda s: event(client=f"curl/8 Authorization: Bearer {s}"),
    "basic header": lambda s: event(client=f"curl/8 Authorization: Basic {encoded('ada:' + s)}"),
    "header in a probe": lambda s: of_workload(
        pod(
            {
                "livenessProbe": {
                    "httpGet": {
                        "httpHeaders": [{"name": "Authorization", "value": f"Basic {encoded(s)}"}]
                    }
                }
            }
        ),
        "pods",
    ),
    "bearer": lambda s: event(
        responseStatus={"code": 400, "message": f"cannot use Bearer {s} here"}
    ),
    "odd header": lambda s: event(client=f"curl/8 Authorization: Token {s}"),
    "signed URL": lambda s: of_workload(
        pod({"args": [f"https://bucket/x?X-Amz-Signature={s}&x=1"]}), "pods"
    ),
    "message": lambda s: event(
        responseStatus={"code": 400, "message": f"invalid value: password={s}, sorry"}
    ),
    "flag": lambda s: of_workload(pod({"args": [f"--admin-password={s}", "--v=2"]}), "pods"),
    "flag and value": lambda s: of_workload(pod({"args": ["--password", s, "--v=2"]}), "pods"),
    "token flag and value": lambda s: of_workload(pod({"command": ["x", "--token", s]}), "pods"),
    "script": lambda s: of_workload(
        pod({"command": ["sh", "-c", f"export PASSWORD={s}; run"]}), "pods"
    ),
    "mysql": lambda s: of_workload(
        pod({"command": ["sh", "-c", f"mysql --password={s} -e 'x'"]}), "pods"
    ),
    "token": lambda s: event(client=f"agent/1 {jwt(s)}"),
    "token as a name": lambda s: event(name=jwt(s)),
    "token as a user": lambda s: event(who=jwt(s)),
    "token in an annotation": lambda s: event(annotations={"x.example.com/y": jwt(s)}),
    "token in extra": lambda s: event(user={"username": "ada", "extra": {"x": [jwt(s)]}}),
    "header in extra": lambda s: event(
        user={"username": "ada", "extra": {"authorization": [f"Bearer {s}"]}}
    ),
    "token in a body": lambda s: of_workload({"metadata": {"labels": {"x": jwt(s)}}}),
    "settings": lambda s: event(
        verb="create",
        resource="configmaps",
        **body({"data": {"application.yaml": f"db:\n  user: app\n  password: {s}\n"}}),
    ),
    "settings of a client": lambda s: event(
        verb="create",
        resource="configmaps",
        **body({"data": {"app.yaml": f"oauth:\n  client_secret: {s}\n"}}),
    ),
    "upper case": lambda s: event(
        verb="create", resource="configmaps", **body({"data": {"x.env": f"API_TOKEN={s}\n"}})
    ),
    "properties": lambda s: event(
        verb="create", resource="configmaps", **body({"data": {"x.properties": f"password={s}\n"}})
    ),
    "a user's URL": lambda s: event(
        requestURI=f"/api/v1/namespaces/x/services/http:db/proxy/?u=http://a:{s}@b/"
    ),
}
PLACES = {**STRUCTURED, **SPOKEN}


def log_of(secrets: dict[str, str]) -> bytes:
    """A line for each place, each with a secret of its own."""
    events = [{**PLACES[place](secret), "auditID": place} for place, secret in secrets.items()]
    return lines(events).replace(b'"ESCAPED"', rb'"\u0070assword"')


def forms(secret: str) -> set[bytes]:
    """What a secret looks like where it was only wrapped."""
    plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    twice = {json.dumps(form)[1:-1] for form in plain}
    coded = {encoded(secret), quote(secret, safe=""), quote(secret)}
    # of base64 of a longer text only the middle is sure
    return {form.encode() for form in plain | twice | coded}


def everything_kept(home: Path) -> dict[str, bytes]:
    """All a lake holds, as text, file by file, column by column."""
    kept = {}
    with duckdb.connect() as connection:
        for path in filter(Path.is_file, home.rglob("*")):
            kept[path.name] = path.read_bytes()
            if path.suffix != ".parquet":
                continue
            found = connection.execute(f"SELECT CAST(part AS VARCHAR) FROM '{path}' AS part")
            kept[path.name] += "\n".join(row[0] for row in found.fetchall()).encode()
            ids = connection.execute(f"SELECT audit_id, * FROM '{path}'").fetchall()
            kept.update({f"event of {row[0]}": repr(row).encode() for row in ids})
    return kept


def all_shown(home: Path, path: Path) -> dict[str, bytes]:
    """All that an analysis keeps and shows."""
    found = analyze([path], lake=home)
    save(found, home / "analysis.json")
    shown = everything_kept(home)
    for name in ("json", "yaml", "jsonl"):
        stream = io.BytesIO()
        exports.write(found, name, stream)
        shown[name] = stream.getvalue()
    shown["page"] = html.render(found).encode()
    return shown


def leaks(secrets: dict[str, str], shown: dict[str, bytes]) -> set[tuple[str, str]]:
    return {
        (place, where)
        for place, secret in secrets.items()
        for where, text in shown.items()
        if any(form in text for form in forms(secret))
    }


@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_secret_is_nowhere(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("redaction")
    secrets = {place: data.draw(passwords, label=place) for place in STRUCTURED}
    secrets |= {place: data.draw(tokens, label=place) for place in SPOKEN}
    path = folder / "audit.log"
    path.write_bytes(log_of(secrets))
    assert leaks(secrets, all_shown(folder / "lake", path)) == set()


SECRETS = {place: f"S3hunter-{number:03}-hunter9x" for number, place in enumerate(PLACES)}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """All that is kept and shown of one log with a secret in every place."""
    folder = tmp_path_factory.mktemp("redaction")
    path = folder / "audit.log"
    path.write_bytes(log_of(SECRETS))
    return all_shown(folder / "lake", path)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_left_out_is_marked(place: str, shown: dict[str, bytes]) -> None:
    assert leaks({place: SECRETS[place]}, shown) == set()
    assert MARK.search(shown[f"event of {place}"].decode())


def cut(line: bytes, secret: str) -> list[bytes]:
    """The line broken in several ways, the secret still in it, as a whole or not."""
    whole = line.rstrip(b"\n")
    place = max(whole.find(form) for form in forms(secret))
    broken = [whole[:-1], b"{" + whole, whole[: place + 6], whole.replace(b'"kind"', b"\xff", 1)]
    outer = json.dumps({"log": whole.decode()}, ensure_ascii=False).encode()
    return [*broken, outer[:-1], outer[:-10], whole[:-1].replace(b",", b",\0")]


@pytest.fixture(scope="module")
def shown_broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """All that is kept and shown of such a log whose lines are broken."""
    folder = tmp_path_factory.mktemp("redaction")
    path = folder / "audit.log"
    broken = [line for place, s in SECRETS.items() for line in cut(log_of({place: s}), s)]
    path.write_bytes(b"\n".join(broken) + b"\n")
    kept = all_shown(folder / "lake", path)
    (quarantine,) = (folder / "lake" / "quarantine").iterdir()
    entries = [json.loads(line) for line in quarantine.read_bytes().splitlines()]
    assert len(entries) > 4 * len(SECRETS)
    for number, entry in enumerate(entries):
        raw = base64.b64decode(entry["base64"]) if "base64" in entry else entry["text"].encode()
        kept[f"quarantine {number}"] = raw.replace(b"\0", b"")
    return kept


@pytest.mark.parametrize("place", PLACES)
def test_a_broken_line_keeps_no_secret_either(place: str, shown_broken: dict[str, bytes]) -> None:
    assert leaks({place: SECRETS[place]}, shown_broken) == set()


def test_a_broken_line_without_secrets_is_kept_letter_by_letter(tmp_path: Path) -> None:
    whole = lines([event(START)])[:-2]
    odd = b"\xff\xfe\0\0 odd \x80 bytes"
    redactor = Redactor(KEY)
    assert redactor.line(whole) == whole
    assert redactor.line(odd) == odd


# What has to be equal, and what has to stay


@given(st.text())
def test_equal_secrets_have_equal_marks_within_a_lake_only(secret: str) -> None:
    mark = Redactor(KEY).mark(secret)
    assert MARK.fullmatch(mark)
    assert mark == Redactor(KEY).mark(secret)
    if not MARK.fullmatch(secret):
        assert mark != Redactor(b"x" * 32).mark(secret)


@given(st.text())
def test_what_is_marked_stays_as_it_is(text: str) -> None:
    redactor = Redactor(KEY)
    once = redactor.text(text)
    assert redactor.text(once) == once
    assert redactor.mark(redactor.mark(text)) == redactor.mark(text)


@given(passwords)
def test_one_secret_in_data_and_in_string_data_can_be_joined(secret: str) -> None:
    redactor = Redactor(KEY)
    plain = redactor.body(json.dumps(secret_object(stringData={"x": secret})), "secrets")
    coded = redactor.body(json.dumps(secret_object(data={"x": encoded(secret)})), "secrets")
    assert MARK.findall(plain) == MARK.findall(coded) == [redactor.mark(secret)]


@pytest.mark.parametrize(
    "text",
    [
        "kubectl/v1.36.0 (linux/amd64) kubernetes/74cdb42",
        "system:serviceaccount:shop:token-reader",
        'secrets "db-password" is forbidden: User "ada" cannot get resource "secrets"',
        'RBAC: allowed by RoleBinding "secret-readers/shop" of Role "secret-reader"',
        "the server was unable to return a response in the time allotted",
        "https://10.0.0.1:6443/api/v1/namespaces/shop/secrets/token-abc",
        "serviceaccount token has been invalidated",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor(KEY).text(text) == text


@pytest.mark.parametrize(
    "value",
    [
        pod({"image": "web:1", "env": [{"name": "MODE", "value": "fast"}]}),
        {"spec": {"volumes": [{"name": "x", "secret": {"secretName": "db-password"}}]}},
        pod({"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db"}}}]}),
        {"spec": {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}},
        {"rules": [{"resources": ["secrets", "tokenreviews"], "verbs": ["get"]}]},
        pod({"args": ["--v=2", "--leader-elect", "true", "--token-ttl=1h"]}),
    ],
)
def test_ordinary_bodies_are_left_alone(value: Any) -> None:
    kept = json.loads(Redactor(KEY).body(json.dumps(value), "pods"))
    assert kept == value


def test_names_in_a_secret_stay_and_values_go() -> None:
    written = secret_object(data={"user": "YQ==", "none": None})
    kept = json.loads(Redactor(KEY).body(json.dumps(written), "secrets"))
    assert kept["metadata"] == {"name": "db"}
    assert set(kept["data"]) == {"user", "none"}
    assert kept["data"]["none"] is None
    assert MARK.fullmatch(kept["data"]["user"])


@pytest.mark.parametrize("broken", ["{", "nonsense", '{"a":' * 2000 + "1" + "}" * 2000])
def test_a_body_that_cannot_be_searched_is_left_out_whole(broken: str) -> None:
    assert MARK.fullmatch(json.loads(Redactor(KEY).body(broken, "secrets")))


@pytest.mark.parametrize(
    "unit",
    [
        *("eyJ", "eyJaaaaaaaa.", "?", "?command", "&token", "://", "://a:", "bearer ", "password"),
        *("authorization ", "authorization:", "-----BEGIN ", "LS0tLS1CRUdJTiBSU0EgU", '"', '\\"'),
        *('"data', '"data" ', "token=", "secret: ", "a_secret:", "--token", "{", "[", " ", "%63"),
    ],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    """A client may send a megabyte of headers (net/http.DefaultMaxHeaderBytes)."""
    redactor = Redactor(KEY)
    text = unit * (200_000 // len(unit))
    begin = time.process_time()
    redactor.text(text)
    redactor.text(text + ".")
    redactor.uri(text)
    redactor.line(text[: 64 << 10].encode())
    redactor.body(json.dumps({"data": text}), "configmaps")
    assert time.process_time() - begin < 2
