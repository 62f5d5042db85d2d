"""A line that waits on disk keeps no secret, and becomes the row it would have become anyway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_log import Event, event
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.events.formats.plain import plain
from kubewitness.events.line_redaction import redacted, suspect
from kubewitness.events.normalisation import event_rows, json_lines
from kubewitness.events.redaction import Redactor
from kubewitness.lake.engine import engine
from test_redaction import KEY, PLACES, SECRETS, forms, jwt, log_of, private_key

CAPTURE = Path(__file__).parents[2] / "shared" / "data" / "capture"
REDACTOR = Redactor(KEY)

JSON_TEXT = {name for name, kind in EVENT_COLUMNS.items() if kind == "JSON"}


def guarded(line: bytes) -> bytes:
    """What is stored of a line: itself unless it may hold a secret."""
    one = plain(line)
    return line if one is not None and not suspect(line, one) else redacted(line, REDACTOR)


def rows(lines: list[bytes], folder: Path, redactor: Redactor = REDACTOR) -> list[dict[str, Any]]:
    """The rows of the lake that lines become, in order."""
    path = folder / "audit.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    select = event_rows(json_lines(str(path), "none"), cluster="a", source="b")
    with engine(folder, redactor) as connection:
        connection.execute("SET threads=1")
        connection.execute("SET preserve_insertion_order=true")
        found = connection.execute(select)
        names = [column[0] for column in found.description]
        return [
            {
                name: json.loads(value) if name in JSON_TEXT and value is not None else value
                for name, value in zip(names, row, strict=True)
            }
            for row in found.fetchall()
        ]


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_left_in_a_line(place: str) -> None:
    line = log_of({place: SECRETS[place]}).strip()
    kept = guarded(line)
    assert not any(form in kept for form in forms(SECRETS[place]))
    assert guarded(kept) == kept


def test_each_place_becomes_the_same_row(tmp_path: Path) -> None:
    same_rows(log_of(SECRETS).splitlines(), tmp_path)


def same_rows(raw: list[bytes], folder: Path) -> list[bytes]:
    """Checks the rows of what is stored of lines against those of the lines; what is stored.

    A lake of another key finds nothing in it that it would have to redact.
    """
    kept = [guarded(line) for line in raw]
    ours = rows(kept, folder)
    theirs, others = rows(raw, folder), rows(kept, folder, Redactor(b"x" * 32))
    for line, our, their, other in zip(raw, ours, theirs, others, strict=True):
        assert our == their, line
        assert our == other, line
    return kept


# Words that stand in events, and pieces of what is looked for, put together in any way.
WORDS = [
    *("web", "db-password", "secret-reader", "kubectl/v1.36.0 (linux/amd64)", "token", "key"),
    *("password=", "Password: ", "token=", "client_secret: ", "API_KEY=", "PWD=", "--password"),
    *("--token=", "Bearer ", "bearer ", "Authorization: ", "authorization: Basic ", "Basic "),
    *("hunter2hunter2", "S3cr3tS3cr3tS3cr3t", jwt("S3cr3tS3cr3t"), private_key("S3cr3t")),
    *(
        "postgres://app:",
        "hunter2",
        "@db:5432/x",
        "https://host/x?sig=",
        "&signature=",
        "?command=",
    ),
    *(
        "&",
        "?",
        "=",
        "/",
        ":",
        " ",
        ",",
        ";",
        '"',
        "'",
        "\\",
        "\n",
        "é",
        "\u212a",
        "eyJ",
        "%63ode=",
    ),
    *("redacted:0123456789ab", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0t", "passphrase=", "patch"),
]
texts = st.lists(st.sampled_from(WORDS), max_size=4).map("".join)
KEYS = [
    *("kind", "data", "stringData", "name", "value", "env", "password", "token", "path", "command"),
    *("args", "metadata", "annotations", "image", "spec", "authorization", "clientSecret", "x"),
    *("status", "items", "secretName", "apiKey", "type", "containers"),
]
KINDS = ["Secret", "SecretList", "TokenRequest", "PodExecOptions", "Pod", "ConfigMap"]
scalars = st.one_of(texts, st.sampled_from(KINDS), st.integers(0, 9), st.booleans(), st.none())


def values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
    return st.one_of(objects, st.lists(inner, max_size=3), objects.map(json.dumps))


bodies = st.recursive(scalars, values, max_leaves=12)
queries = st.lists(
    st.sampled_from([w for w in WORDS if w.isascii() and w.isprintable()]), max_size=4
)
events = st.fixed_dictionaries(
    {
        "verb": st.sampled_from(["get", "create", "patch", "delete"]),
        "resource": st.sampled_from(
            ["pods", "secrets", "deployments", "tokenreviews", "configmaps"]
        ),
        "subresource": st.sampled_from(["", "", "exec", "token", "status"]),
        "who": texts.filter(bool),
        "name": texts,
        "client": texts,
        "query": queries.map("".join),
        "responseStatus": st.fixed_dictionaries({"code": st.just(200), "message": texts}),
        "annotations": st.dictionaries(st.sampled_from(["a/b", "patch.x/y"]), texts, max_size=2),
        "requestObject": st.none() | bodies,
        "responseObject": st.none() | bodies,
        "impersonatedUser": st.none() | st.fixed_dictionaries({"username": texts}),
        "user": st.none()
        | st.fixed_dictionaries(
            {
                "username": texts,
                "extra": st.dictionaries(
                    st.sampled_from(["a", "token"]), st.lists(texts, max_size=2)
                ),
            }
        ),
    }
)


def written(made: dict[str, Any], ascii_only: bool) -> bytes:
    user = made.pop("user")
    one: Event = event(**made, **({"user": user} if user else {}))
    return json.dumps(one, separators=(",", ":"), ensure_ascii=ascii_only).encode()


lines_of = st.builds(written, events, st.booleans())


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(raw=st.lists(lines_of, min_size=1, max_size=40))
def test_a_line_that_was_redacted_becomes_the_same_row(
    raw: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    same_rows(raw, tmp_path_factory.mktemp("rows"))


@pytest.mark.skipif(not CAPTURE.exists(), reason="the shared data is not here")
def test_of_a_real_log_the_rows_stay_and_hardly_a_line_is_suspect(tmp_path: Path) -> None:
    with zstandard.open(CAPTURE / "test.jsonl.zst", "rb") as file:
        raw = file.read().splitlines()[::20]
    kept = same_rows(raw, tmp_path)
    assert [guarded(line) for line in kept] == kept
    changed = sum(one != other for one, other in zip(raw, kept, strict=True))
    assert 0 < changed < len(raw) / 10
