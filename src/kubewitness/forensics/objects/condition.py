"""What a workload has to be like, in the language of queries (``query.grammar``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from kubewitness.events.normalisation import quoted
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

# Regular expressions that are a word, and words that JSON writes as they are.
_WORD = re.compile(r"[\w/:@-]+", re.ASCII)
_PLAIN = re.compile(r"[ !#-%'-;=?-\[\]-~]+")
# What stands in no column of its own: only in what was asked, made of it by admission or answered;
# and what stands before it there, as images are parts of many names.
_IN_BODIES = {
    "image": r"\"image\":\s*\"[^\"]*",
    **dict.fromkeys(("secret", "configmap", "serviceaccount"), ""),
}
_JSON_PATCH = "starts_with(CAST(request_object AS VARCHAR), '[')"
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


def foreseen(condition: Expression, *, answered: bool = False) -> str:
    """SQL over changes: true at least for one write of each object that ever is like that, and of
    few others. Of those that were ``answered`` with their pod spec, or of the others."""
    match condition:
        case Question():
            return " OR ".join(_words(condition, answered=answered)) or "true"
        case Not():
            return "true"
        case And(terms):
            # Two things may have come by two writes: together only what never changes is asked for.
            fixed = [foreseen(one, answered=answered) for one in terms if _is_fixed(one)]
            rest = (foreseen(one, answered=answered) for one in terms if not _is_fixed(one))
            found = [*fixed, next((sql for sql in rest if sql != "true"), "true")]
            return " AND ".join(f"({one})" for one in found)
        case Or(terms):
            return " OR ".join(f"({foreseen(one, answered=answered)})" for one in terms)


def in_bodies(condition: Expression) -> bool:
    """Whether only a body can tell that an object is like that."""
    match condition:
        case Question():
            return condition.field.name in _IN_BODIES and any(_words(condition, answered=False))
        case And(terms):
            return any(map(in_bodies, terms))
        case Or(terms):
            return bool(terms) and all(map(in_bodies, terms))
    return False


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


def _is_fixed(condition: Expression) -> bool:
    return isinstance(condition, Question) and condition.field.name in _FIXED


def _words(question: Question, *, answered: bool) -> Iterator[str]:
    """For each value a test that holds wherever the question does; none where nothing is known."""
    name, texts = question.field.name, [str(value) for value in question.values]
    exact = question.operator == "in" and all(map(_PLAIN.fullmatch, texts))
    if not exact and not (question.operator == "~" and _WORD.fullmatch(texts[0])):
        return
    for text in texts:
        if name in _FIXED and exact:
            yield f"{name} = {quoted(text)}"
        elif name in _IN_BODIES:
            # In JSON a slash may be escaped.
            word = max(text.split("/"), key=len)
            yield from _in_spec(name, word) if answered else _in_bodies(name, word)
        else:
            return


def _in_spec(name: str, word: str) -> Iterator[str]:
    spec = "CAST(pod_spec AS VARCHAR)"
    yield f"""(contains({spec}, {quoted(word)})
        AND regexp_matches({spec}, {quoted(_IN_BODIES[name] + re.escape(word))}))"""


def _in_bodies(name: str, word: str) -> Iterator[str]:
    yield f"contains(CAST(annotations AS VARCHAR), {quoted(word)})"
    yield f"({_JSON_PATCH} AND contains(CAST(request_object AS VARCHAR), {quoted(word)}))"
    pattern = quoted(_IN_BODIES[name] + re.escape(word))
    for body in ("request_object", "response_object"):
        yield f"regexp_matches(CAST({body} AS VARCHAR), {pattern})"
