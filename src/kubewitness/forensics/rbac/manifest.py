"""Roles and bindings as Kubernetes writes them: in bodies of a log, and in a user's snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kubewitness.errors import KubewitnessError
from kubewitness.forensics.rbac.policy import GROUP, Binding, Key, Role, Rule, Selector, Subject

_KINDS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def read(manifest: Any) -> Role | Binding | None:
    """A role or binding from an object as Kubernetes writes it, ``None`` if it is something else.

    Raises ``ValueError`` when it says that it is one and does not look like one.
    """
    if not isinstance(manifest, dict):
        return None
    kind = manifest.get("kind")
    if kind not in _KINDS or not str(manifest.get("apiVersion", GROUP)).startswith(GROUP):
        return None
    metadata = _mapping(manifest.get("metadata"))
    namespace = "" if str(kind).startswith("Cluster") else _text(metadata.get("namespace"))
    key = Key(str(kind), namespace, _text(metadata.get("name")))
    if not key.name:
        raise ValueError(f"a {kind} without a name")
    if "Binding" in key.kind:
        reference = _mapping(manifest.get("roleRef"))
        role = _text(reference.get("kind"))
        return Binding(
            key,
            Key(role, namespace if role == "Role" else "", _text(reference.get("name"))),
            tuple(_subject(_mapping(one), namespace) for one in _list(manifest.get("subjects"))),
        )
    aggregation = _mapping(manifest.get("aggregationRule"))
    return Role(
        key,
        tuple(_rule(_mapping(one)) for one in _list(manifest.get("rules"))),
        {name: _text(value) for name, value in _mapping(metadata.get("labels")).items()},
        tuple(_selector(_mapping(s)) for s in _list(aggregation.get("clusterRoleSelectors"))),
    )


def manifests(document: Any) -> list[dict[str, Any]]:
    """The objects of a document, or of a list of them, whose items may not say what they are."""
    if not isinstance(document, dict):
        return []
    items = document.get("items")
    if not isinstance(items, list):
        return [document]
    kind = str(document.get("kind", "")).removesuffix("List")
    return [{"kind": kind, **item} if kind else item for item in items if isinstance(item, dict)]


def snapshot_of(path: Path) -> dict[Key, Role | Binding]:
    """The roles and bindings in a file of YAML or JSON.

    Raises ``KubewitnessError`` where it cannot be read or holds none.
    """
    remedy = (
        "write it with 'kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o json'"
    )
    try:
        documents = _documents(path.read_bytes())
        found = [read(one) for document in documents for one in manifests(document)]
    except OSError as error:
        raise KubewitnessError(str(error.strerror), where=str(path), remedy=remedy) from error
    except ValueError as error:
        raise KubewitnessError(
            f"no snapshot of roles and bindings: {error}", where=str(path), remedy=remedy
        ) from error
    objects = {one.key: one for one in found if one is not None}
    if not any(isinstance(one, Binding) for one in objects.values()):
        raise KubewitnessError("no bindings are in there", where=str(path), remedy=remedy)
    return objects


def _documents(data: bytes) -> list[Any]:
    """JSON, or YAML of any number of documents. Raises ``ValueError``."""
    try:
        return [msgspec.json.decode(data)]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            return list(yaml.load_all(data, Loader=loader))
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(str(error).splitlines()[0]) from error


def _rule(rule: dict[str, Any]) -> Rule:
    fields = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    return Rule(*(tuple(_text(item) for item in _list(rule.get(field))) for field in fields))


def _subject(subject: dict[str, Any], namespace: str) -> Subject:
    kind = _text(subject.get("kind"))
    own = _text(subject.get("namespace")) or namespace
    return Subject(kind, _text(subject.get("name")), own if kind == "ServiceAccount" else "")


def _selector(selector: dict[str, Any]) -> Selector:
    labels = _mapping(selector.get("matchLabels"))
    expressions = (_mapping(one) for one in _list(selector.get("matchExpressions")))
    return Selector(
        tuple((name, _text(value)) for name, value in labels.items()),
        tuple(
            (
                _text(one.get("key")),
                _text(one.get("operator")),
                tuple(_text(value) for value in _list(one.get("values"))),
            )
            for one in expressions
        ),
    )


def _mapping(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.60} where fields should be")  # noqa: TRY004
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.60} where a list should be")  # noqa: TRY004
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} where text should be")  # noqa: TRY004
    return value
