"""What the API server would have answered, and why it would have allowed it."""

from __future__ import annotations

import random
import re
from typing import Any, NamedTuple

import msgspec

from kubewitness.evaluate.rehearsal.casting import Casting
from kubewitness.evaluate.rehearsal.player import Player
from kubewitness.evaluate.rehearsal.script import Request
from kubewitness.evaluate.rehearsal.survey import OK

REASON = "authorization.k8s.io/reason"
INTERACTIVE = frozenset({"exec", "attach", "portforward"})
# What everybody may ask, tokens or none (system:public-info-viewer).
_PUBLIC = frozenset({"/version", "/healthz", "/readyz", "/livez"})
_BINDING = re.compile('Binding "[^"]*"')


class Answer(NamedTuple):
    """``code`` is ``OK`` for whatever success looks like; ``reason`` is the authorizer's."""

    code: int
    reason: str = ""


class Authorizer:
    """Answers as the rights seen in the log have it, and the script."""

    def __init__(self, casting: Casting, rng: random.Random) -> None:
        self._casting = casting
        self._survey = casting.survey
        self._rng = rng

    def answer(self, request: Request) -> Answer:
        step, player = request.step, request.player
        if step.code:
            return Answer(step.code)
        if step.granted:
            return Answer(OK, self._granted(request))
        if player.kind == "anonymous" and not step.must:
            return Answer(OK if step.path in _PUBLIC else 403)
        reason = self._casting.reason(player, step.right, request.namespace)
        if reason is None and step.must:
            latent = self._survey.rights.dormant(player.user, {step.right})
            reason = latent.reason if latent is not None and player.kind != "node" else ""
        elif reason is None and (step.path or step.resource.startswith("self")):
            reason = self._everybodys(step.right, player)
        elif reason is None and request.acting_as is not None:
            latent = self._survey.rights.dormant(player.user, {("impersonate", "users", "")})
            reason = latent.reason if latent is not None else ""
        return Answer(403) if reason is None else Answer(OK, reason)

    def _granted(self, request: Request) -> str:
        """The reason of what was permitted a moment ago."""
        player, step = request.player, request.step
        reason = self._casting.reason(player, step.right, request.namespace)
        if reason is not None and player.kind != "anonymous":
            return reason
        latent = self._survey.rights.dormant(player.user, {step.right})
        if latent is None or not request.binding:
            return latent.reason if latent is not None else ""
        return _BINDING.sub(lambda _: f'Binding "{request.binding}"', latent.reason, count=1)

    def _everybodys(self, right: tuple[str, str, str], player: Player) -> str:
        """The reason for what everybody may do, as others were told it."""
        found = self._survey.example(right, OK, player.kind, self._rng)
        for line in found.stages.values() if found is not None else ():
            reason = (msgspec.json.decode(line).get("annotations") or {}).get(REASON)
            if isinstance(reason, str) and "Group" in reason:
                return reason
        return ""


def status(request: Request, example: dict[str, Any], code: int) -> dict[str, Any]:
    """The ``responseStatus`` of an event like ``example``."""
    step = request.step
    if code == OK:
        real = (example.get("responseStatus") or {}).get("code", 0)
        if not 0 < real < 400:
            real = 201 if step.verb == "create" else OK
        return {"metadata": {}, "code": 101 if step.subresource in INTERACTIVE else real}
    reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}.get(code, "Invalid")
    failure = {"metadata": {}, "status": "Failure", "message": reason, "reason": reason}
    if code == 403:
        kind, _, group = step.resource.partition(".")
        details = {"name": request.name, "group": group, "kind": kind}
        failure["message"] = _refusal(request)
        failure["details"] = {name: text for name, text in details.items() if text}
    return {**failure, "code": code}


def _refusal(request: Request) -> str:
    """As k8s.io/apiserver/pkg/endpoints/handlers/responsewriters words it."""
    step, user = request.step, request.player.user
    if request.path:
        return f'forbidden: User "{user}" cannot {step.verb} path "{request.path}"'
    kind, _, group = step.resource.partition(".")
    whole = f"{kind}/{step.subresource}" if step.subresource else kind
    scope = "at the cluster scope"
    if request.namespace:
        scope = f'in the namespace "{request.namespace}"'
    named = f' "{request.name}"' if request.name and step.verb != "create" else ""
    return (
        f'{step.resource}{named} is forbidden: User "{user}" cannot {step.verb} resource'
        f' "{whole}" in API group "{group}" {scope}'
    )
