"""A request as this cluster would have logged it: an example of its log, changed where it must be.

Shape, level, latency and annotations are the example's. Who, where from, what about, when and the
answer are the script's.
"""

from __future__ import annotations

import random
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.rehearsal.casting import Casting, Player
from kubewitness.evaluate.rehearsal.script import Request
from kubewitness.evaluate.rehearsal.survey import OK, Example, Sighting, Survey

_DECISION = "authorization.k8s.io/decision"
_REASON = "authorization.k8s.io/reason"
_ISSUED = "authentication.kubernetes.io/issued-credential-id"
_CREDENTIAL = "authentication.kubernetes.io/credential-id"
# Their bodies are credentials: no policy that logs them is to be imitated.
_SECRETIVE = frozenset({"secrets", "serviceaccounts/token", "tokenreviews.authentication.k8s.io"})
_INTERACTIVE = frozenset({"exec", "attach", "portforward"})
_CONNECTED = _INTERACTIVE | {"proxy"}
_READS = frozenset({"get", "list", "watch"})
_SITTING = timedelta(hours=12)
_ORDER = {"ResponseStarted": 0, "ResponseComplete": 1, "Panic": 2}
_PAGE = 500


class Forge:
    """Makes the events of requests. ``minted`` remembers tokens that were issued by one request, so
    that a later one is made with them."""

    def __init__(self, casting: Casting, rng: random.Random) -> None:
        self._casting = casting
        self._survey: Survey = casting.survey
        self._rng = rng
        self._minted: dict[str, str] = {}

    def events(
        self, request: Request, at: datetime, begin: datetime
    ) -> tuple[str, Sighting, list[tuple[datetime, bytes]]]:
        """The auditID of a request made ``at`` a time, who made it where, and its events by when they are logged.

        Who makes it sits where it sat when the script began, for as long as people sit.
        """
        step = request.step
        right = step.right
        player = request.player
        sighting = player.at(begin if at - begin < _SITTING else at)
        code, reason = self._answer(request)
        example, exact = self._example(request, code)
        audit_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        user = msgspec.json.decode(sighting.user)
        if player.identity is not None and player.user in self._minted and "extra" in user:
            user["extra"] = {_CREDENTIAL: [self._minted[player.user]]}
        if code == 401:
            user = {}
        events: list[tuple[datetime, dict[str, Any]]] = []
        for stage, line in sorted(example.stages.items(), key=lambda s: _ORDER.get(s[0], 1)):
            event: dict[str, Any] = msgspec.json.decode(line)
            delay = _instant(event["stageTimestamp"]) - _instant(event["requestReceivedTimestamp"])
            logged = at + max(delay, timedelta())
            body = self._bodies(request, event, exact, code, at)
            status = self._status(request, event, code)
            level = self._level(request, event, exact)
            if level == "Metadata" or (level == "Request" and body):
                body.pop("responseObject", None)
            if level == "Metadata":
                body.pop("requestObject", None)
            changed = {
                "level": level,
                "auditID": audit_id,
                "stage": stage,
                "requestURI": self._uri(request, event, exact),
                "verb": right[0],
                "user": user,
                "impersonatedUser": request.acting_as,
                "sourceIPs": list(sighting.addresses),
                "userAgent": sighting.agent,
                "objectRef": self._ref(request),
                "responseStatus": status,
                "requestObject": body.get("requestObject"),
                "responseObject": body.get("responseObject"),
                "requestReceivedTimestamp": _text(at),
                "stageTimestamp": _text(logged),
                "annotations": self._annotations(request, event, code, reason),
            }
            events.append((logged, _merged(event, changed)))
        if self._survey.received:
            events.insert(0, (at, _received(events[0][1])))
        return (
            audit_id,
            sighting,
            [(logged, msgspec.json.encode(event)) for logged, event in events],
        )

    def _answer(self, request: Request) -> tuple[int, str]:
        """The response code, and why it was allowed."""
        step, player = request.step, request.player
        if step.code:
            return step.code, ""
        if step.granted:
            return OK, self._granted(request)
        if player.kind == "anonymous" and not step.must:
            open_path = step.path in ("/version", "/healthz", "/readyz", "/livez")
            return (OK if open_path else 403), ""
        reason = self._casting.reason(player, step.right, request.namespace)
        if reason is None and step.must:
            latent = self._survey.rights.dormant(player.user, {step.right})
            reason = latent.reason if latent is not None and player.kind != "node" else ""
        elif reason is None and (step.path or step.resource.startswith("self")):
            reason = self._given(step.right, player)
        if request.acting_as is not None and reason is None:
            latent = self._survey.rights.dormant(player.user, {("impersonate", "users", "")})
            reason = latent.reason if latent is not None else ""
        return (403, "") if reason is None else (OK, reason)

    def _granted(self, request: Request) -> str:
        """The reason of what was permitted a moment ago."""
        player, step = request.player, request.step
        reason = self._casting.reason(player, step.right, request.namespace)
        if reason is not None and player.kind != "anonymous":
            return reason
        latent = self._survey.rights.dormant(player.user, {step.right})
        if latent is None:
            return ""
        made = re.sub('Binding "[^"]*"', lambda _: f'Binding "{request.binding}"', latent.reason, 1)
        return made if request.binding else latent.reason

    def _given(self, right: tuple[str, str, str], player: Player) -> str:
        """The reason for what everybody may do: the example's."""
        found = self._survey.example(right, OK, player.kind, self._rng)
        if found is None:
            return ""
        reason: Any = {}
        for line in found.stages.values():
            reason = (msgspec.json.decode(line).get("annotations") or {}).get(_REASON, "")
        return reason if isinstance(reason, str) and "Group" in reason else ""

    def _example(self, request: Request, code: int) -> tuple[Example, bool]:
        """What to imitate, and whether it is the very same kind of request and answer."""
        verb, resource, subresource = right = request.step.right
        kind = request.player.kind
        found = self._survey.example(right, code, kind, self._rng)
        if found is None and subresource in _INTERACTIVE:
            other = "create" if verb == "get" else "get"
            found = self._survey.example((other, resource, subresource), code, kind, self._rng)
        if found is not None:
            return found, True
        group = resource.partition(".")[2]
        wanted = OK if code != 401 else code

        def likeness(other: tuple[str, str, str]) -> tuple[bool, ...]:
            return (
                other[1:] != right[1:],
                other[0] != verb,
                (other[2] in _INTERACTIVE) != (subresource in _INTERACTIVE),
                bool(other[2]) != bool(subresource),
                other[1].startswith("/") != resource.startswith("/"),
                other[1].partition(".")[2] != group,
            )

        known = self._survey.known(wanted) or self._survey.known(OK)
        if not known:
            raise KubewitnessError("nothing in this log to imitate", remedy="Give a longer log.")
        # Reads and writes are logged at different levels: a likeness of verbs weighs most but one.
        same = [other for other in known if other == right] or [o for o in known if o[0] == verb]
        best = min(same or known, key=lambda other: (likeness(other), other))
        chosen = self._survey.example(best, wanted, kind, self._rng) or self._survey.example(
            best, OK, kind, self._rng
        )
        assert chosen is not None
        return chosen, best == right and code == OK

    def _level(self, request: Request, event: dict[str, Any], exact: bool) -> str:
        step = request.step
        whole = f"{step.resource}/{step.subresource}" if step.subresource else step.resource
        if whole in _SECRETIVE or step.resource in _SECRETIVE:
            return "Metadata"
        seen = None if exact else self._survey.level(step.verb, step.resource)
        return seen or str(event.get("level", "Metadata"))

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
        if not query and exact and step.subresource not in _INTERACTIVE:
            query = str(event.get("requestURI", "")).partition("?")[2]
            if "resourceVersion" in query or "Selector" in query:
                query = f"limit={_PAGE}" if step.verb == "list" else ""
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

    def _status(self, request: Request, event: dict[str, Any], code: int) -> dict[str, Any]:
        step = request.step
        kind, _, group = step.resource.partition(".")
        if code == OK:
            given = event.get("responseStatus") or {}
            real = given.get("code", 0)
            if not 0 < real < 400:
                real = 201 if step.verb == "create" else OK
            if step.subresource in _INTERACTIVE:
                real = 101
            return {"metadata": {}, "code": real}
        if code == 401:
            return {"metadata": {}, "status": "Failure", "message": "Unauthorized",
                    "reason": "Unauthorized", "code": 401}  # fmt: skip
        if code == 403:
            whole = f"{kind}/{step.subresource}" if step.subresource else kind
            scope = f'in the namespace "{request.namespace}"' if request.namespace else (
                "at the cluster scope"
            )  # fmt: skip
            named = f' "{request.name}"' if request.name and step.verb != "create" else ""
            full = f"{kind}.{group}" if group else kind
            user = request.player.user
            message = (
                f'{full}{named} is forbidden: User "{user}" cannot {step.verb} resource "{whole}"'
                f' in API group "{group}" {scope}'
                if kind
                else f'forbidden: User "{user}" cannot {step.verb} path "{request.path}"'
            )
            details = {"name": request.name, "group": group, "kind": kind}
            return {"metadata": {}, "status": "Failure", "message": message, "reason": "Forbidden",
                    "details": {k: v for k, v in details.items() if v}, "code": 403}  # fmt: skip
        reason = {404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}.get(code, "InternalError")
        return {"metadata": {}, "status": "Failure", "reason": reason, "code": code}

    def _annotations(
        self, request: Request, event: dict[str, Any], code: int, reason: str
    ) -> dict[str, str] | None:
        given = event.get("annotations")
        kept = {
            name: text
            for name, text in (given or {}).items()
            if not name.startswith("authorization.k8s.io/") and name != _ISSUED
            and "admission" not in name and "pod-security" not in name
        }  # fmt: skip
        if code == 401:
            return kept or None
        if given is None or _DECISION in given or code == 403 or self._survey.rights.known:
            kept[_DECISION] = "forbid" if code == 403 else "allow"
            kept[_REASON] = reason
        step = request.step
        if step.verb == "create" and step.subresource == "token" and code == OK:
            token = f"JTI={self._casting.uuid()}"
            account = f"system:serviceaccount:{request.namespace}:{request.name}"
            self._minted[account] = token
            kept[_ISSUED] = token
        return kept

    def _bodies(
        self, request: Request, event: dict[str, Any], exact: bool, code: int, at: datetime
    ) -> dict[str, Any]:
        step = request.step
        asked, answered = event.get("requestObject"), event.get("responseObject")
        if step.verb in _READS or step.subresource in _CONNECTED:
            return {}
        meta = {"name": request.name, "namespace": request.namespace}
        meta = {key: value for key, value in meta.items() if value}
        if step.verb == "delete" or step.verb == "deletecollection":
            return {
                "requestObject": asked if exact else None,
                "responseObject": {"kind": "Status", "apiVersion": "v1", "metadata": {},
                                   "status": "Success"} if exact else None,
            }  # fmt: skip
        if request.body is not None:
            asked = dict(request.body)
            if step.verb != "patch":
                asked["metadata"] = meta | asked.get("metadata", {})
        elif exact:
            asked = _renamed(asked, meta)
        else:
            asked = {"metadata": meta} if step.verb != "patch" else {}
        if code != OK:
            return {"requestObject": asked, "responseObject": None}
        base = _renamed(answered, meta) if exact else {}
        whole = {**(base or {}), **(request.body or {})}
        made = {
            **meta,
            "uid": self._casting.uuid(),
            "creationTimestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **(whole.get("metadata") or {}),
        }
        return {"requestObject": asked, "responseObject": {**whole, "metadata": made}}


def _renamed(body: Any, meta: dict[str, str]) -> Any:
    """A body of the example about the object of the script."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        return body
    kept = {k: v for k, v in body["metadata"].items() if k not in ("name", "namespace", "uid")}
    return {**body, "metadata": {**meta, **kept}}


def _merged(event: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """``changed`` in the order of the example's fields; what is None is left out."""
    merged = {name: changed.get(name, value) for name, value in event.items()}
    merged |= {name: value for name, value in changed.items() if name not in merged}
    for name in ("requestObject", "responseObject", "impersonatedUser", "objectRef", "annotations"):
        if merged.get(name) is None:
            merged.pop(name, None)
    if changed["impersonatedUser"] is None:
        merged.pop("impersonatedUser", None)
    return merged


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
