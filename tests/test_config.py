"""The configuration of the service: what is read, which mistakes are told and how, and what is
shown of it."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import string
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from conftest import Command
from kubewitness.config.document import read_document
from kubewitness.config.effective import effective, yaml_of
from kubewitness.config.environment import keys, variable
from kubewitness.config.origin import Origins
from kubewitness.config.problem import Problem
from kubewitness.config.quantity import duration, size, spelled_duration, spelled_size
from kubewitness.config.reading import Configuration, configuration, read, understood
from kubewitness.config.settings import (
    Bucket,
    Cluster,
    Kafka,
    Listen,
    Settings,
    Sink,
)
from kubewitness.errors import ConfigError

LEAST = "data: data\nclusters:\n- name: prod\n"

Told = Callable[..., Configuration]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The configuration that a text amounts to, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def configure(text: str, *, flags: dict[str, str] | None = None, **variables: str) -> Any:
        (tmp_path / "serve.yaml").write_text(text, encoding="utf-8")
        return configuration(Path("serve.yaml"), environment=variables, overrides=flags or {})

    return configure


@pytest.fixture
def mistakes(told: Told) -> Callable[..., str]:
    """The mistakes that a text is refused for."""

    def refuse(text: str, **more: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            told(text, **more)
        return str(caught.value)

    return refuse


def kept(path: Path, text: str) -> Path:
    """A file that only its owner may read."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


# Quantities


def test_durations_are_what_they_say() -> None:
    assert duration("1d12h") == 129_600
    assert duration("1.5h") == 5_400
    assert duration("1w") == 604_800


@pytest.mark.parametrize("text", ["", "30", "1h1h", "h", "-1s", "1 h", "1y", "9999999d", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no duration|hundred years"):
        duration(text)


@given(st.just(0.0) | st.floats(min_value=1e-6, max_value=3e9))
def test_a_duration_is_read_as_it_was_written(seconds: float) -> None:
    assert duration(spelled_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_size_is_read_as_it_was_written(n: int) -> None:
    assert size(spelled_size(n)) == n


@pytest.mark.parametrize(
    ("text", "n"),
    [("64Mi", 64 << 20), ("64MiB", 64 << 20), ("64 mb", 64_000_000), ("1.5Ki", 1536), ("7", 7)],
)
def test_sizes_are_what_they_say(text: str, n: int) -> None:
    assert size(text) == n


@pytest.mark.parametrize("text", ["", "MiB", "1.5", "1ZiB", "-1", "1e3", "99999999TiB", "0x10"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no size|whole number|exbibyte"):
        size(text)


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse in (duration, size):
        with suppress(ValueError):
            assert math.isfinite(parse(text))


# What is read


def test_the_least_configuration_is_all_defaults(told: Told, tmp_path: Path) -> None:
    assert told(LEAST).settings == Settings(
        data=tmp_path / "data", clusters=(Cluster(name="prod"),)
    )


def test_values_are_read_as_what_they_are_for(told: Told, tmp_path: Path) -> None:
    found = told(
        """
data: /srv/witness
listen: {port: 8443, body_bytes: 64MiB, body_timeout: 1m30s}
admin: null
clusters:
- name: no
  follow: [logs/audit.log, /var/log/audit.log, "-"]
- name: 0x10
  buckets:
  - {url: s3://logs/eks/, every: 10s, options: {region: eu-central-1, allow_http: true}}
sinks:
- {name: out, type: file, path: ~/out.jsonl, alerts_only: no}
""",
        HOME="/nowhere",
    ).settings
    assert found.data == Path("/srv/witness")
    assert found.listen == Listen(port=8443, body_bytes=64 << 20, body_timeout=90.0)
    assert found.admin is None
    assert [one.name for one in found.clusters[:1]] == ["no"]
    assert found.clusters[0].follow == (
        tmp_path / "logs/audit.log",
        Path("/var/log/audit.log"),
        Path("-"),
    )
    assert found.clusters[1].name == "0x10"
    assert found.sinks[0].path == Path.home() / "out.jsonl"
    assert found.sinks[0].alerts_only is False


def test_a_variable_wins_over_the_file_and_a_flag_over_both(told: Told) -> None:
    text = LEAST + "listen: {port: 1, connections: 7}\ndetection: {learn: 2d}\n"
    found = told(
        text,
        flags={"detection.learn": "4d"},
        KUBEWITNESS_LISTEN_PORT="2",
        KUBEWITNESS_DETECTION_LEARN="3d",
    )
    assert found.settings.listen == Listen(port=2, connections=7)
    assert found.settings.detection.learn == 4 * 86_400
    assert str(found.origins.of("listen.port")) == "environment KUBEWITNESS_LISTEN_PORT"
    assert str(found.origins.of("listen.connections")) == "serve.yaml:4:32"
    assert str(found.origins.of("detection.learn")) == "--set detection.learn"
    assert str(found.origins.of("logs")) == "default"


def test_variables_can_switch_on_and_off_what_the_file_does_not_say(told: Told) -> None:
    found = told(
        LEAST.replace("- name: prod\n", "- {name: prod, follow: [a.log]}\n") + "admin: null\n",
        KUBEWITNESS_ADMIN_PORT="9",
        KUBEWITNESS_LISTEN="null",
    ).settings
    assert found.listen is None
    assert found.admin is not None
    assert found.admin.port == 9


def test_what_is_said_later_is_for_all_of_a_key(told: Told, tmp_path: Path) -> None:
    kept(tmp_path / "url", "postgresql://db/b")
    found = told(
        LEAST,
        flags={"state.file": "url", "listen.port": "7", "admin": "null"},
        KUBEWITNESS_STATE="postgresql://db/a",
        KUBEWITNESS_LISTEN="null",
        KUBEWITNESS_ADMIN_PORT="8",
        KUBEWITNESS_LISTEN_CONNECTIONS="9",
    ).settings
    assert found.state == "postgresql://db/b"
    assert found.listen == Listen(port=7, connections=9)
    assert found.admin is None


def test_no_file_is_needed_for_what_variables_can_say(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clusters: there is none"):
        read(None, environment={"KUBEWITNESS_DATA": str(tmp_path)}, overrides={})


def test_every_single_value_has_a_variable_of_its_own() -> None:
    names = [variable(key) for key in keys()]
    assert len(names) == len(set(names)) > 20
    assert "KUBEWITNESS_LISTEN_TLS_CLIENT_CA" in names
    assert "KUBEWITNESS_STATE_FILE" in names


def test_variables_that_kubernetes_sets_for_a_service_are_not_settings(told: Told) -> None:
    """A Service called kubewitness, and one called kubewitness-listen."""
    found = told(
        LEAST,
        KUBEWITNESS_SERVICE_HOST="10.96.0.7",
        KUBEWITNESS_SERVICE_PORT_HTTPS="8443",
        KUBEWITNESS_PORT="tcp://10.96.0.7:8443",
        KUBEWITNESS_PORT_8443_TCP_ADDR="10.96.0.7",
        KUBEWITNESS_LISTEN_PORT="tcp://10.96.0.8:8443",
        KUBEWITNESS_CONFIG="serve.yaml",
    )
    assert found.settings.listen == Listen()


def test_a_secret_comes_from_a_file_and_is_nowhere_shown(told: Told, tmp_path: Path) -> None:
    kept(tmp_path / "state-url", "postgresql://me:hunter2secret@db/witness\n")
    kept(tmp_path / "password", "correct horse\n")
    found = told(
        LEAST
        + """  kafka:
  - brokers: kafka:9092
    topic: audit
    options: {sasl.username: me, sasl.password: {file: password}}
sinks:
- name: hook
  type: webhook
  url: https://example.org/
  headers:
    Authorization: {file: password}
""",
        KUBEWITNESS_STATE_FILE="state-url",
    )
    known = found.settings
    assert known.state == "postgresql://me:hunter2secret@db/witness"
    assert known.clusters[0].kafka[0].options["sasl.password"] == "correct horse"
    assert known.sinks[0].headers == {"Authorization": "correct horse"}
    assert found.warnings == ()
    shown = yaml_of(known, found.origins) + json.dumps(effective(known, found.origins))
    for secret in ("hunter2", "horse"):
        assert secret not in shown
    assert f"file: {tmp_path}/state-url" in shown


# Mistakes


SINGLE = """\
dat: x
listen:
  prot: 8443
  port: 84433
  body_bytes: 12 parsecs
  body_timeout: 30
  connections: many
  connections: 3
  tls: certificate.pem
clusters:
  name: prod
sinks:
- {name: a, type: slak, alerts_only: maybe, per_minute: 0, timeout: 0s}
- name: {first: b}
  headers: [a]
  path:
logs: &x yes
"""
TOGETHER = """\
data: serve.yaml
state: mysql://me:pw@db/x
listen:
  address: 0.0.0.0
  body_bytes: 1GiB
admin: {address: witness, port: 8443}
clusters:
- name: prod
- {name: prod, token_file: missing, path: /audit/prod}
- {name: "a b", client: x, path: "audit?"}
- name: fed
  follow: [a.log, a.log]
  buckets: [{url: "http://x"}]
  kafka: [{brokers: b, topic: t, options: {sasl.password: pw}}]
detection: {history: 2d, learn: 3d}
sinks:
- {name: a, type: slack, url: "https://hooks.slack.com/services/T/B/x"}
- {name: a, type: falco}
- {name: b, type: file, path: p, url: "http://x", template: t, secret_file: s}
- {name: c, type: webhook, url: "ftp://x", headers: {Authorization: Bearer x}, template: t}
- {name: d, type: ocsf, path: p, url: "http://x?token=1"}
"""


def test_all_mistakes_are_told_at_once(
    mistakes: Callable[..., str], snapshot: SnapshotAssertion
) -> None:
    single = mistakes(
        SINGLE, flags={"admin.port": "x", "lisen.port": "1"}, KUBEWITNESS_LISTN_PORT="1"
    )
    assert single == snapshot(name="values")
    together = mistakes(TOGETHER).replace(str(Path.cwd()), "DIR")
    assert together == snapshot(name="together")


BROKEN = {
    "a tab": "data: x\nlisten:\n\tport: 1\n",
    "an open bracket": "data: [x\n",
    "two documents": "data: x\n---\ndata: y\n",
    "a list": "- data\n",
    "a text": "data",
    "a tag": "data: !!python/object/apply:os.system [id]\n",
    "a merge": "a: &a {port: 1}\ndata: x\nlisten:\n  <<: *a\n",
    "a key that is a list": "data: x\n[a]: b\n",
    "an unknown alias": "data: *x\n",
    "a ring": "data: x\nclusters: &a [*a]\n",
    "deep": "data: " + "[" * 2000,
    "a control character": "data: 'a\x07b'\n",
    "a bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_configuration_is_told_with_its_place(
    name: str, mistakes: Callable[..., str], snapshot: SnapshotAssertion
) -> None:
    assert mistakes(BROKEN[name]) == snapshot


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_bytes(b"data: x\nlogs: \xff\n")
    with pytest.raises(ConfigError, match=r"serve.yaml:2:7: no UTF-8"):
        read(path, environment={}, overrides={})
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        read(path, environment={}, overrides={})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "none.yaml", environment={}, overrides={})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read(tmp_path, environment={}, overrides={})


def test_aliases_are_read_as_what_they_stand_for(told: Told) -> None:
    found = told(
        LEAST
        + """  buckets:
  - {url: s3://a/, options: &o {region: r}}
  - {url: s3://b/, options: *o}
"""
    )
    assert [one.options for one in found.settings.clusters[0].buckets] == [{"region": "r"}] * 2


YAML_ISH = st.text(alphabet=string.ascii_lowercase + ":-{}[]&*!|>'\"\n #,?%@`<", max_size=60)


@settings(max_examples=50)
@given(st.one_of(YAML_ISH, st.binary(max_size=60).map(lambda b: b.decode("latin-1"))))
def test_any_file_is_settings_or_an_error_that_says_what(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        read(path, environment={}, overrides={})
    assert caught.value.remedy
    assert "any.yaml" in str(caught.value)


# What goes together


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("listen: {address: 0.0.0.0}", "listen.tls: is missing, though everybody"),
        ("listen: {address: '::'}", "listen.tls: is missing, though everybody"),
        ("listen: {address: 192.0.2.1, plaintext: true}", "has neither token_file nor client"),
        ("listen: null", "nothing arrives from it, as listen is off"),
    ],
)
def test_a_receiver_that_others_reach_is_guarded(
    more: str, said: str, mistakes: Callable[..., str]
) -> None:
    assert said in mistakes(f"{LEAST}{more}\n")


def test_a_cluster_that_only_feeds_needs_no_credential(told: Told) -> None:
    text = LEAST + "  follow: [a.log]\nlisten: {address: 0.0.0.0, plaintext: true}\n"
    assert told(text).settings.clusters[0].token_file is None


def test_who_may_read_a_token_is_told(told: Told, tmp_path: Path) -> None:
    token = kept(tmp_path / "token", "0123456789abcdef0123456789\n")
    text = LEAST + "  token_file: token\nlisten: {plaintext: true}\n"
    assert told(text).warnings == ()
    token.chmod(0o644)
    (warning,) = told(text).warnings
    assert str(warning) == (
        f"serve.yaml:4:15: clusters[0].token_file: {token} may be read by everybody on this"
        f" machine (mode 0644)\n  chmod 600 {token}; in a pod, defaultMode: 0440 of the volume"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "is empty"), ("two words", "no bearer token"), ("a\nb", "no bearer token"), ("é", "no")],
)
def test_a_file_that_holds_no_token_is_refused(
    content: str, said: str, mistakes: Callable[..., str], tmp_path: Path
) -> None:
    kept(tmp_path / "token", content)
    assert said in mistakes(LEAST + "  token_file: token\n")


def test_a_token_that_is_a_pipe_is_not_waited_for(
    mistakes: Callable[..., str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "token")
    assert "no file" in mistakes(LEAST + "  token_file: token\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_token_that_may_not_be_read_is_told(mistakes: Callable[..., str], tmp_path: Path) -> None:
    kept(tmp_path / "token", "x" * 30).chmod(0)
    assert "permission denied" in mistakes(LEAST + "  token_file: token\n")


def test_a_short_token_and_one_that_is_never_sent_are_doubtful(told: Told, tmp_path: Path) -> None:
    kept(tmp_path / "token", "abc")
    said = [warning.what for warning in told(LEAST + "  token_file: token\n").warnings]
    assert [text.partition(",")[0] for text in said] == [
        "an API server sends its token over https only",
        f"the token in {tmp_path}/token is shorter than 20 characters",
    ]


def certified(folder: Path, name: str, *, days: int = 365) -> None:
    """``NAME.crt`` and ``NAME.key``, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=500))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    kept(
        folder / f"{name}.key",
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


TLS = "listen: {tls: {certificate: a.crt, key: %s, client_ca: a.crt}}\n"


def test_certificates_are_tried(told: Told, mistakes: Callable[..., str], tmp_path: Path) -> None:
    certified(tmp_path, "a")
    certified(tmp_path, "b")
    assert told(LEAST + TLS % "a.key").warnings == ()
    assert "a.crt: the key is not that of the certificate" in mistakes(LEAST + TLS % "b.key")
    assert "no certificate and key in PEM" in mistakes(LEAST + TLS % "a.crt")
    assert "no such file" in mistakes(LEAST + TLS % "c.key")
    (tmp_path / "b.crt").write_text("nothing")
    assert "no certificates in PEM" in mistakes(
        LEAST + (TLS % "a.key").replace("client_ca: a", "client_ca: b")
    )
    certified(tmp_path, "a", days=-3)
    assert "expired at" in told(LEAST + TLS % "a.key").warnings[0].what


def test_a_key_with_a_password_is_refused(mistakes: Callable[..., str], tmp_path: Path) -> None:
    certified(tmp_path, "a")
    key = serialization.load_pem_private_key((tmp_path / "a.key").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pw"),
    )
    kept(tmp_path / "a.key", encrypted.decode())
    assert "the key is encrypted" in mistakes(LEAST + TLS % "a.key")


@pytest.mark.parametrize("url", ["http://[x", "https://a:b:c", "http://", "x", "http://a:99999"])
def test_what_is_no_url_is_told(url: str, mistakes: Callable[..., str]) -> None:
    sink = f"sinks: [{{name: a, type: webhook, url: '{url}'}}]\n"
    assert "no http:// or https:// URL" in mistakes(LEAST + sink)
    assert "no URL of a PostgreSQL database" in mistakes(LEAST + f"state: '{url}'\n")


def test_a_folder_that_cannot_be_written_to_is_told(
    mistakes: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("")
    assert f"data: {tmp_path}/data is no folder" in mistakes(LEAST)


# What is in effect


NAMES = st.text(alphabet=string.ascii_letters + string.digits + "._-", min_size=1, max_size=12)
ANY_TEXT = st.text(
    alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12
)
OPTIONS = st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3)
DURATIONS = st.floats(min_value=0.001, max_value=1e9)


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    """Settings that hold all kinds of values, whether they make sense together or not."""
    return Settings(
        data=Path("/", draw(NAMES)),
        state=draw(ANY_TEXT),
        listen=draw(st.none() | st.builds(Listen, body_timeout=DURATIONS, plaintext=st.booleans())),
        clusters=tuple(
            draw(
                st.lists(
                    st.builds(
                        Cluster,
                        name=ANY_TEXT,
                        follow=st.lists(NAMES.map(lambda n: Path("/x", n)), max_size=2).map(tuple),
                        token_file=st.none() | NAMES.map(lambda n: Path("/y", n)),
                        buckets=st.lists(
                            st.builds(Bucket, url=ANY_TEXT, every=DURATIONS, options=OPTIONS),
                            max_size=2,
                        ).map(tuple),
                        kafka=st.lists(
                            st.builds(Kafka, brokers=ANY_TEXT, topic=ANY_TEXT, options=OPTIONS),
                            max_size=2,
                        ).map(tuple),
                        path=ANY_TEXT,
                        client=ANY_TEXT,
                    ),
                    max_size=2,
                )
            )
        ),
        sinks=tuple(
            draw(
                st.lists(
                    st.builds(
                        Sink,
                        name=ANY_TEXT,
                        type=st.sampled_from(["falco", "file", "stdout"]),
                        url=ANY_TEXT,
                        headers=OPTIONS,
                        timeout=DURATIONS,
                        alerts_only=st.booleans(),
                        per_minute=st.integers(1, 10**6),
                    ),
                    max_size=2,
                )
            )
        ),
    )


@settings(max_examples=50)
@given(any_settings())
def test_what_is_in_effect_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, wanted: Settings
) -> None:
    path = tmp_path_factory.getbasetemp() / "effective.yaml"
    path.write_text(yaml_of(wanted, Origins({}, {})), encoding="utf-8")
    problems: list[Problem] = []
    table = read_document(path, problems)
    assert table is not None
    assert understood(table, {}, problems)[0] == wanted
    assert problems == []


# The commands


def test_the_example_can_be_taken_as_it_is(kubewitness: Command, tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_bytes(kubewitness("config", "example").out)
    done = kubewitness("config", "check", path)
    assert (done.code, done.talk) == (0, "")
    assert yaml.safe_load(done.text)["clusters"][0]["name"] == "production"


def test_what_the_example_leaves_out_is_the_default_or_can_be_taken(
    told: Told, tmp_path: Path
) -> None:
    """Comments of the example, without their #, are configuration, too."""
    text = resources.files("kubewitness.config").joinpath("example.yaml").read_text("utf-8")
    commented = [line for line in text.splitlines() if _is_setting(line)]
    assert len(commented) > 30
    everything = "\n".join(
        line.replace("# ", "", 1) if line in commented else line for line in text.splitlines()
    )
    certified(tmp_path, "server")
    (tmp_path / "client-ca.crt").write_bytes((tmp_path / "server.crt").read_bytes())
    (tmp_path / "production").mkdir()
    kept(tmp_path / "production/token", "0123456789abcdef0123456789")
    kept(tmp_path / "state-url", "postgresql://db/witness")
    kept(tmp_path / "slack-url", "https://hooks.slack.com/services/T/B/x")
    for name in ("kafka-password", "alertmanager-token", "soar-secret", "soar.j2"):
        kept(tmp_path / name, "0123456789abcdef0123456789")
    found = told(everything)
    assert [sink.type for sink in found.settings.sinks] == [
        "stdout", "falco", "alertmanager", "slack", "webhook", "ocsf",
    ]  # fmt: skip
    assert found.warnings == ()
    assert found.settings.listen is not None
    assert msgspec.structs.replace(found.settings.listen, tls=None) == Listen()


def _is_setting(line: str) -> bool:
    """Whether a line is a comment that is no sentence."""
    words = line.strip().removeprefix("#").strip().removeprefix("- ").split(" ")
    return line.strip().startswith("#") and re.fullmatch(r"[\w.]+:", words[0]) is not None


def test_the_command_says_where_each_value_is_from(
    kubewitness: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(LEAST)
    monkeypatch.setenv("KUBEWITNESS_LOGS", "json")
    done = kubewitness("config", "check", path, "--set", "listen.port=1", "-o", "json")
    found = json.loads(done.out)
    assert found["settings"]["listen"]["port"] == 1
    assert found["origins"]["listen.port"] == "--set listen.port"
    assert found["origins"]["logs"] == "environment KUBEWITNESS_LOGS"
    assert found["origins"]["clusters[0].name"] == f"{path}:3"
    assert found["origins"]["retention.events"] == "default"
    assert set(found["origins"].values()) >= {"default"}
    monkeypatch.setenv("KUBEWITNESS_CONFIG", str(path))
    assert yaml.safe_load(kubewitness("config", "check").text)["logs"] == "json"


def test_the_command_ends_with_what_it_found(kubewitness: Command, tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("data: x\nlistn: null\n\x1b[31m: 1\n")
    done = kubewitness("config", "check", path)
    assert done.code == 1
    assert done.out == b""
    assert b"\x1b" not in done.err
    assert kubewitness("config", "check", path, "--set", "port").code == 2
    path.write_text(LEAST + "  token_file: token\n")
    token = kept(tmp_path / "token", "x" * 30)
    token.chmod(stat.S_IRUSR | stat.S_IROTH)
    done = kubewitness("config", "check", path)
    assert done.code == 0
    assert "Warning: " in done.talk
