"""What a workload has to be like, in the language of queries (``query.grammar``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kubewitness.forensics.objects.model import Workload
from kubewitness.query.expression import And, Expression, Not, Or, Question
from kubewitness.query.fields import Field
from kubewitness.query.grammar import parse
from kubewitness.query.memory import predicate

_FIELDS = (
    Field("image", "texts", "images of its containers, init and ephemeral ones included"),
    Field("secret", "texts", "secrets that it mounts, reads or pulls images with"),
    Field("configmap", "texts", "config maps that it mounts or reads"),
    Field("serviceaccount", "text", "service account under which its pods act"),
    Field("node", "text", "node that a pod was given"),
    Field("kind", "texts", "`deployments`; also as `deployments.apps`"),
    Field("namespace", "text", "its namespace"),
    Field("name", "text", "its name"),
    Field("cluster", "text", "the cluster the log is of"),
)
FIELDS: dict[str, Field] = {field.name: field for field in _FIELDS}
ANYTHING: Expression = And(())

_PLAIN = re.compile(r"[\w/:@-]+", re.ASCII)
# What is told of a write before its body is read, by the fields that cannot be met without it.
_TOLD = {
    "image": "images",
    **dict.fromkeys(("secret", "configmap", "serviceaccount"), "CAST(request_object AS VARCHAR)"),
}
_FIXED = frozenset({"namespace", "name", "cluster"})


def where(text: str) -> Expression:
    """A condition on workloads. Raises ``QueryError``, which points at the place.

    >>> from kubewitness.query.writing import written
    >>> written(where("image~postgres and not namespace=shop"))
    'image ~ postgres and namespace != shop'
    """
    return parse(text, FIELDS)


def meets(condition: Expression) -> Callable[[Workload], bool]:
    """Whether a workload is like that."""
    holds = predicate(condition)
    return lambda one: holds(_fields(one))


def foreseen(condition: Expression) -> tuple[str, dict[str, Any]]:
    """SQL over events, with its parameters by name: true at least for one write of each object
    that ever is like that, and of few others."""
    parameters: dict[str, Any] = {}
    return _foreseen(condition, parameters), parameters


def _fields(one: Workload) -> Mapping[str, str | Sequence[str]]:
    resource = one.subject.kind.partition(".")[0]
    return {
        "image": one.images,
        "secret": one.secrets,
        "configmap": one.configmaps,
        "serviceaccount": one.service_account,
        "node": one.node,
        "kind": tuple(dict.fromkeys((resource, one.subject.kind))),
        "namespace": one.subject.namespace,
        "name": one.subject.name,
        "cluster": one.subject.cluster,
    }


def _foreseen(condition: Expression, parameters: dict[str, Any]) -> str:
    match condition:
        case Question():
            return " OR ".join(_words(condition, parameters)) or "true"
        case Not():
            return "true"
        case And(terms):
            return " AND ".join(f"({_foreseen(one, parameters)})" for one in terms) or "true"
        case Or(terms):
            return " OR ".join(f"({_foreseen(one, parameters)})" for one in terms)


def _words(question: Question, parameters: dict[str, Any]) -> Iterator[str]:
    """For each value a test that holds wherever the question does; none where nothing is known."""
    name, texts = question.field.name, [str(value) for value in question.values]
    exact = question.operator == "in" and all(texts)
    if not exact and not (question.operator == "~" and _PLAIN.fullmatch(texts[0])):
        return
    for text in texts:
        known = f"word{len(parameters)}"
        if name == "serviceaccount" and text in "default":
            return  # the API server fills it in: it may stand in no request
        if name in _TOLD:
            yield f"contains({_TOLD[name]}, ${known})"
        elif name in _FIXED and exact:
            yield f"{name} = ${known}"
        else:
            return
        parameters[known] = text
