"""A request as this cluster would have logged it: an example of its log, changed where it must be.

Shape, level, latency and annotations are the example's. Who, where from, what about, when and the
answer are the script's.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from kubewitness.evaluate.rehearsal.answering import INTERACTIVE, REASON, Answer, Authorizer, status
from kubewitness.evaluate.rehearsal.body import Made, bodies
from kubewitness.evaluate.rehearsal.casting import Casting
from kubewitness.evaluate.rehearsal.habit import Sighting
from kubewitness.evaluate.rehearsal.likeness import level, likeness
from kubewitness.evaluate.rehearsal.script import Request
from kubewitness.evaluate.rehearsal.survey import OK

_DECISION = "authorization.k8s.io/decision"
_ISSUED = "authentication.kubernetes.io/issued-credential-id"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"
# What webhooks and policies said of the example, they said of another object.
_OPINIONS = ("authorization.k8s.io/", "pod-security.kubernetes.io/", _ISSUED)
_ADMISSION = "admission.k8s.io/"
_BODIES = {"Request": ("requestObject",), "RequestResponse": ("requestObject", "responseObject")}
_ORDER = {"ResponseStarted": 0, "ResponseComplete": 1, "Panic": 2}
# For so long, people and pods stay where they are.
_SITTING = timedelta(hours=12)


class Forged(NamedTuple):
    """One request: who made it where, and its events by when they were logged."""

    audit_id: str
    sighting: Sighting
    events: list[tuple[datetime, bytes]]


class Forge:
    """Makes the events of requests; a token that one issued is used by those that follow."""

    def __init__(self, casting: Casting, rng: random.Random) -> None:
        self._casting = casting
        self._survey = casting.survey
        self._authorizer = Authorizer(casting, rng)
        self._rng = rng
        self._minted: dict[str, str] = {}

    def forge(self, request: Request, at: datetime, begin: datetime) -> Forged:
        """The request made ``at`` a time, in a script that began at ``begin``."""
        player = request.player
        sighting = player.at(begin if at - begin < _SITTING else at)
        answer = self._authorizer.answer(request)
        chosen = likeness(self._survey, request, answer.code, self._rng)
        made = Made(at, self._casting.uuid())
        same: dict[str, Any] = {
            "auditID": self._casting.uuid(),
            "verb": request.step.verb,
            "user": self._user(request, sighting, answer.code),
            "impersonatedUser": request.acting_as,
            "sourceIPs": list(sighting.addresses),
            "userAgent": sighting.agent,
            "objectRef": self._ref(request),
            "requestReceivedTimestamp": _text(at),
        }
        issued = self._issued(request, answer.code)
        events: list[tuple[datetime, dict[str, Any]]] = []
        for stage in sorted(chosen.example.stages, key=lambda stage: _ORDER.get(stage, 1)):
            event: dict[str, Any] = msgspec.json.decode(chosen.example.stages[stage])
            delay = _instant(event["stageTimestamp"]) - _instant(event["requestReceivedTimestamp"])
            logged = at + max(delay, timedelta())
            shown = level(self._survey, request, chosen, str(event.get("level", "Metadata")))
            body = bodies(request, event, chosen.exact, answer.code, made)
            changed = {
                **same,
                "level": shown,
                "stage": stage,
                "requestURI": self._uri(request, event, chosen.exact),
                "responseStatus": status(request, event, answer.code),
                "requestObject": None,
                "responseObject": None,
                **{name: body.get(name) for name in _BODIES.get(shown, ())},
                "stageTimestamp": _text(logged),
                "annotations": self._annotations(event, answer, issued),
            }
            events.append((logged, _merged(event, changed)))
        if self._survey.received:
            events.insert(0, (at, _received(events[0][1])))
        lines = [(logged, msgspec.json.encode(event)) for logged, event in events]
        return Forged(same["auditID"], sighting, lines)

    def _user(self, request: Request, sighting: Sighting, code: int) -> dict[str, Any]:
        if code == 401:
            return {}
        user: dict[str, Any] = msgspec.json.decode(sighting.user)
        minted = self._minted.get(request.player.user)
        if minted and request.player.identity is not None and "extra" in user:
            user["extra"] = {_CREDENTIAL: [minted]}
        return user

    def _issued(self, request: Request, code: int) -> str:
        """The id of a token that this request makes, or ''."""
        step = request.step
        if (step.verb, step.subresource, code) != ("create", "token", OK):
            return ""
        token = f"JTI={self._casting.uuid()}"
        self._minted[f"system:serviceaccount:{request.namespace}:{request.name}"] = token
        return token

    def _uri(self, request: Request, event: dict[str, Any], exact: bool) -> str:
        step = request.step
        if request.path:
            return f"{request.path}?{request.query}" if request.query else request.path
        kind, _, group = step.resource.partition(".")
        version = self._survey.version(step.resource)
        parts = ["apis", group, version] if group else ["api", version]
        if request.namespace:
            parts += ["namespaces", request.namespace]
        parts.append(kind)
        if request.name and not (step.verb == "create" and not step.subresource):
            parts.append(request.name)
        subresource, _, rest = step.subresource.partition("/")
        parts += [part for part in (subresource, rest) if part]
        query = request.query
        if not query and exact and step.subresource not in INTERACTIVE:
            query = str(event.get("requestURI", "")).partition("?")[2]
            if "resourceVersion" in query or "Selector" in query:
                query = "limit=500" if step.verb == "list" else ""
        return "/" + quote("/".join(parts), safe="/:@") + (f"?{query}" if query else "")

    def _ref(self, request: Request) -> dict[str, str] | None:
        step = request.step
        if not step.resource:
            return None
        kind, _, group = step.resource.partition(".")
        ref = {
            "resource": kind,
            "namespace": request.namespace,
            "name": request.name,
            "apiGroup": group,
            "apiVersion": self._survey.version(step.resource),
            "subresource": step.subresource,
        }
        return {key: value for key, value in ref.items() if value}

    def _annotations(
        self, example: dict[str, Any], answer: Answer, issued: str
    ) -> dict[str, str] | None:
        given = example.get("annotations") or {}
        kept = {
            name: text
            for name, text in given.items()
            if not name.startswith(_OPINIONS) and _ADMISSION not in name
        }
        if answer.code != 401 and (not given or _DECISION in given or self._survey.rights.known):
            kept[_DECISION] = "forbid" if answer.code == 403 else "allow"
            kept[REASON] = answer.reason
        if issued:
            kept[_ISSUED] = issued
        return kept or None


def _merged(event: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """``changed`` in the order of the example's fields; what is None is left out."""
    merged = {name: changed.get(name, value) for name, value in event.items()}
    merged |= {name: value for name, value in changed.items() if name not in merged}
    return {name: value for name, value in merged.items() if value is not None}


def _received(event: dict[str, Any]) -> dict[str, Any]:
    """The stage before there is an answer."""
    without = ("responseStatus", "responseObject", "annotations")
    first = {name: value for name, value in event.items() if name not in without}
    return {**first, "stage": "RequestReceived",
            "stageTimestamp": event["requestReceivedTimestamp"]}  # fmt: skip


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
