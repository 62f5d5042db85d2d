"""What a workload runs and mounts, read from its pod spec: in pods and in templates alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubewitness.forensics.objects.knowledge import Unknown, child

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def pod_spec(known: Any) -> Any:
    """The pod spec of a pod or a workload controller; ``Unknown`` or an open map where it is not
    (wholly) known.

    >>> pod_spec({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"nodeName": "a"}}}}}})
    {'nodeName': 'a'}
    """
    spec = _at(known, "spec")
    for name in ("jobTemplate", "template"):
        if isinstance(spec, dict) and name in spec:
            below = _at(spec, name)
            spec = _at(below, "spec")
            if name == "jobTemplate":
                spec = _at(_at(spec, "template"), "spec")
    return spec


def images(spec: Any) -> tuple[str, ...]:
    return tuple(sorted({image for one in _containers(spec) if (image := _text(one.get("image")))}))


def mounted(spec: Any, kind: str) -> tuple[str, ...]:
    """The names of the ``secret`` or ``configMap`` objects that a pod reads: volumes, projected
    volumes, environment and image pull secrets.

    >>> mounted({"containers": [{"envFrom": [{"secretRef": {"name": "db"}}]}]}, "secret")
    ('db',)
    """
    found = set(_volumes(spec, kind))
    for container in _containers(spec):
        for source in _items(container, "envFrom"):
            found.add(_text(child(source, f"{kind}Ref").get("name")))
        for variable in _items(container, "env"):
            key = child(child(variable, "valueFrom"), f"{kind}KeyRef")
            found.add(_text(key.get("name")))
    if kind == "secret":
        found.update(_text(one.get("name")) for one in _items(spec, "imagePullSecrets"))
    return tuple(sorted(found - {""}))


def _volumes(spec: Any, kind: str) -> Iterator[str]:
    for volume in _items(spec, "volumes"):
        sources = [volume, *_items(child(volume, "projected"), "sources")]
        for source in sources:
            own = child(source, kind)
            # A volume says secretName, a projected source name.
            yield _text(own.get("secretName") or own.get("name"))


def _containers(spec: Any) -> Iterator[dict[str, Any]]:
    for name in _CONTAINERS:
        yield from _items(spec, name)


def _items(value: Any, name: str) -> list[dict[str, Any]]:
    items = value.get(name) if isinstance(value, dict) else None
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _at(value: Any, name: str) -> Any:
    if isinstance(value, Unknown):
        return value
    return child(value, name)
