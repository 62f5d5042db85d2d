"""The rule that is missing, as ``kubectl apply`` takes it: exactly what was refused, no more.

What only namespaces hold is granted there; what was asked across all of them, or belongs to the
cluster, needs a ClusterRole. Verbs that name their object are granted for the names that were
asked for, where the log has them all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from kubewitness.activity.principal import UNAUTHENTICATED, account_namespace
from kubewitness.activity.technique import GRAVE, technique
from kubewitness.incidents.misconfiguration.refusals import Series, Thing

_GROUP = "rbac.authorization.k8s.io"
_ACCOUNT = "system:serviceaccount:"
# A request with these verbs names the object it is about (RBAC's resourceNames can bind it).
_NAMING = frozenset({"get", "update", "patch", "delete"})
_NAMES = 5


def manifest(series: Series, suffix: str) -> str:
    """YAML of the roles and bindings, '' for those to whom nothing can or should be bound:
    callers without a name, and components whose rights do not come from RBAC alone.

    ``suffix`` keeps the names of two findings apart.
    """
    subject = _subject(series)
    if subject is None or series.whose in ("anonymous", "node", "control-plane"):
        return ""
    name = f"allow-{_slug(subject['name'])}-{suffix}"
    rules = _rules(series.things)
    documents = [
        document
        for namespace, granted in sorted(rules.items())
        for document in _granted(name, namespace, granted, subject)
    ]
    return _yaml(documents)


def _yaml(documents: list[dict[str, Any]]) -> str:
    """As people write it: verbs and resources in one line, everything else a line each."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def sequence(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
        plain = all(isinstance(value, str) for value in values)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)

    Dumper.add_representer(list, sequence)
    text: str = yaml.dump_all(
        documents, Dumper=Dumper, sort_keys=False, default_flow_style=False, width=10_000
    )
    return text


def powers(series: Series) -> tuple[str, ...]:
    """What a grant would permit of what attacks are made of, in words that complete "may …"."""
    deeds = (
        technique(verb, thing.resource, thing.subresource, thing.namespace)
        for thing in series.things
        for verb in thing.verbs
    )
    return tuple(dict.fromkeys(deed.tried for deed in deeds if deed.weight >= GRAVE))


def _subject(series: Series) -> dict[str, str] | None:
    """Who is asked about by the authorizer: the impersonated user, if any."""
    who = series.acting_as or series.principal
    if who in ("", UNAUTHENTICATED):
        return None
    namespace = account_namespace(who)
    if namespace:
        name = who.removeprefix(_ACCOUNT).partition(":")[2]
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"kind": "User", "name": who, "apiGroup": _GROUP}


def _rules(things: Iterable[Thing]) -> dict[str, list[dict[str, Any]]]:
    """By namespace ('': cluster-wide) the rules, those that differ only in resources together."""
    alike: dict[str, dict[tuple[Any, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for thing in things:
        if not thing.resource:
            path = thing.action.partition(" ")[2]
            alike[""]["nonResourceURLs", tuple(sorted(thing.verbs))] += [path, f"{path}/*"]
            continue
        kind, _, group = thing.resource.partition(".")
        resource = f"{kind}/{thing.subresource}" if thing.subresource else kind
        naming = tuple(sorted(verb for verb in thing.verbs if verb in _NAMING))
        names = _all_names(thing) if naming else ()
        rest = tuple(sorted(set(thing.verbs) - set(naming))) if names else ()
        for verbs, only in ((naming, names), (rest, ())) if names else ((thing.verbs, ()),):
            if verbs:
                place = alike[thing.namespace]
                place["resources", group, tuple(sorted(verbs)), only].append(resource)
    return {
        namespace: [_rule(key, sorted(set(resources))) for key, resources in sorted(rules.items())]
        for namespace, rules in alike.items()
    }


def _rule(key: tuple[Any, ...], resources: list[str]) -> dict[str, Any]:
    if key[0] == "nonResourceURLs":
        return {"nonResourceURLs": resources, "verbs": list(key[1])}
    _, group, verbs, names = key
    rule = {"apiGroups": [group], "resources": resources}
    if names:
        rule["resourceNames"] = list(names)
    return {**rule, "verbs": list(verbs)}


def _all_names(thing: Thing) -> tuple[str, ...]:
    """The names that were asked for, if they are few and all known; generated ones come anew."""
    few = len(thing.names) == thing.objects <= _NAMES and not thing.generated
    return tuple(sorted(thing.names)) if few and all(thing.names) else ()


def _granted(
    name: str, namespace: str, rules: list[dict[str, Any]], subject: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    role = {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": f"{kind}Binding",
        "metadata": dict(metadata),
        "roleRef": {"apiGroup": _GROUP, "kind": kind, "name": name},
        "subjects": [dict(subject)],
    }
    return role, binding


def _slug(name: str) -> str:
    """
    >>> _slug("Ada Lovelace@example.org"), _slug("≠")
    ('ada-lovelace-example-org', 'principal')
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return slug or "principal"
