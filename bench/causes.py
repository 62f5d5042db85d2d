"""Are causal chains right? Pods are traced to what made them, attacks to their first request.

    python bench/causes.py [--pods 60] DIR...

DIR: labelled datasets (docs/evaluation.md). Of each, as far as it can be told:

* pods that a controller made, picked at random, as many of each kind of owner: what made them is
  counted from bodies alone, by owner references up to the workload on top and the last write of it
  that changed its template (or patched it, whatever the answer shows), its number or its schedule,
  or, where somebody had just removed another pod of the owner since, that. The chain has to name
  that very request; asked once with bodies, once as if all had been logged at level Metadata.
* attacks: asked for the cause of the last of their requests, the chain has to hold the first. Where
  nothing but the same person leads there, and not within one sitting, only the incident knows: of
  attacks in the judged part, the incident that tells of the last request, its evidence, its further
  events or its chain, has to tell of the first. A chain that holds everything would hold the first,
  too: how many steps the chains have, and which share of them is the attack's own, is told beside.

Rewrites the block between ``<!-- causes:begin -->`` and ``<!-- causes:end -->`` in
docs/forensics.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import ATTACK, Dataset, read_dataset, trial
from kubewitness.forensics.causes.chain import cause_of, cause_of_request
from kubewitness.forensics.causes.record import Record
from kubewitness.incidents.detection import detect
from kubewitness.incidents.model import Incident
from kubewitness.incidents.tracing import traced
from kubewitness.inquiry import opened
from throughput import ROOT, machine, rewrite, table

PAGE = ROOT / "docs" / "forensics.md"
SEED = 5
SOON = timedelta(minutes=2)
"""A pod that somebody removed is made again within."""
OWNERS = {
    "ReplicaSet": "replicasets",
    "Job": "jobs",
    "DaemonSet": "daemonsets",
    "StatefulSet": "statefulsets",
    "Deployment": "deployments",
    "CronJob": "cronjobs",
}
# Of a create that leaves the name to the API server, level Metadata does not tell it.
_HIDDEN = """NULL::JSON AS request_object, NULL::JSON AS response_object, 'Metadata' AS level,
    '' AS traits, '' AS images,
    CASE WHEN verb = 'create' AND resource = 'pods' AND subresource IS NULL
        AND request_object IS NOT NULL
        AND json_extract_string(request_object, '$.metadata.name') IS NULL THEN NULL
    ELSE name END AS name"""
_TOLD = """NULL::JSON AS metadata, NULL::JSON AS pod_spec, NULL::JSON AS items,
    dry_run AND contains(request_uri, 'dryRun=') AS dry_run"""

Thing = tuple[str, str, str]


class Pod(NamedTuple):
    """A pod that a controller made ``at`` a time for ``owner``."""

    namespace: str
    name: str
    at: datetime
    owner: Thing


class Write(NamedTuple):
    """A write of a workload; ``matters`` where its controller has to act."""

    at: datetime
    audit_id: str
    matters: bool


def main() -> None:
    """Count and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--pods", type=int, default=60)
    options = parser.parse_args()
    rows = []
    for folder in options.folders:
        dataset = read_dataset(folder)
        with opened(dataset.files, cluster=dataset.name, bodies=True) as (_, connection, _):
            rows += list(_attacks(dataset, connection))
            rows += list(_pods(dataset.name, options.pods, connection))
        print(*rows, sep="\n", file=sys.stderr)
    told = f"{machine()} Seed {SEED}."
    rewrite("causes", [told, table(("dataset", "asked", "right", "of"), rows)], PAGE)


def _attacks(dataset: Dataset, connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, ...]]:
    with trial(dataset) as ready:
        since = ready.since
        found = detect(ready.connection, ready.name, since=since)
        incidents = traced(ready.connection, found.incidents)
    chained: Counter[bool] = Counter()
    told: Counter[bool] = Counter()
    steps: list[int] = []
    own: list[float] = []
    for one in dataset.episodes:
        rows = connection.execute(
            "SELECT audit_id FROM events WHERE audit_id IN (SELECT unnest(?))"
            " GROUP BY 1 ORDER BY min(received_at)",
            [list(one.audit_ids)],
        ).fetchall()
        if one.label != ATTACK or not rows:
            continue
        first, last = rows[0][0], rows[-1][0]
        chain = cause_of_request(Record(connection), last)
        held = {step.audit_id for step in chain.steps}
        chained[first in held] += 1
        steps.append(len(held))
        own.append(len(held & set(one.audit_ids)) / len(held))
        if since is None or one.start >= since:
            told[any({first, last} <= _known(incident) for incident in incidents)] += 1
    for what, right in (("the cause", chained), ("the incident", told)):
        asked = f"attacks: {what} of the last request tells of the first"
        yield dataset.name, asked, str(right[True]), str(right.total())
    if steps:
        yield dataset.name, "attacks: steps of such a chain, median", f"{median(steps):.0f}", ""
        yield dataset.name, "attacks: share of its own requests in it, mean", f"{mean(own):.2f}", ""


def _known(incident: Incident) -> set[str]:
    """What an incident tells of, by auditID."""
    steps = incident.cause.steps if incident.cause else ()
    return {*incident.evidence, *incident.events, *(step.audit_id for step in steps)}


def _pods(name: str, n: int, connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, ...]]:
    known = _told_by_bodies(connection)
    if not known:
        return
    kinds: dict[str, list[Pod]] = defaultdict(list)
    for pod in sorted(known):
        kinds[pod.owner[1]].append(pod)
    rng = random.Random(SEED)
    each = max(1, n // len(kinds))
    chosen = [pod for pods in kinds.values() for pod in rng.sample(pods, min(each, len(pods)))]
    for hidden, told in ((False, "with bodies"), (True, "as if at level Metadata")):
        if hidden:
            _hide(connection)
        right = sum(_names(connection, pod, known[pod]) for pod in chosen)
        yield name, f"pods traced to what made them, {told}", str(right), str(len(chosen))


def _hide(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave in the views what a log at level Metadata would tell."""
    for view, hidden in (("events", _HIDDEN), ("changes", f"{_HIDDEN}, {_TOLD}")):
        connection.execute(f"ALTER VIEW {view} RENAME TO open_{view}")
        connection.execute(f"CREATE VIEW {view} AS SELECT * REPLACE ({hidden}) FROM open_{view}")


def _names(connection: duckdb.DuckDBPyConnection, pod: Pod, audit_id: str) -> bool:
    """Whether the chain of a pod holds the request that made it."""
    at = pod.at.replace(tzinfo=UTC) + timedelta(seconds=3)
    try:
        chain = cause_of(Record(connection), f"pod/{pod.name}", pod.namespace, at)
    except KubewitnessError:
        return False
    return audit_id in {step.audit_id for step in chain.steps}


def _told_by_bodies(connection: duckdb.DuckDBPyConnection) -> dict[Pod, str]:
    """Pods with the request that made them, where that is in the log."""
    writes, above = _writes(connection)
    pods = []
    for namespace, name, at, kind, owner in connection.execute(
        """SELECT namespace, name, received_at, owner->>'kind', owner->>'name' FROM (
            SELECT *, response_object->'metadata'->'ownerReferences'->0 AS owner FROM events
            WHERE resource = 'pods' AND verb = 'create' AND subresource IS NULL AND code < 400
                AND stage = 'ResponseComplete' AND response_object IS NOT NULL)
        WHERE owner->>'controller' = 'true' ORDER BY received_at"""
    ).fetchall():
        if kind in OWNERS:
            pods.append(Pod(namespace, name, at, (namespace, OWNERS[kind], owner)))
    removed = _removed(connection, pods)
    found = {}
    for pod in pods:
        top = above.get(pod.owner, pod.owner)
        made = [one for one in writes.get(top, ()) if one.at < pod.at and one.matters]
        if made:
            gone = [one for one in removed[pod.owner] if made[-1].at < one.at < pod.at]
            soon = [one for one in gone if pod.at - one.at <= SOON]
            found[pod] = (soon or made)[-1].audit_id
    return found


def _removed(connection: duckdb.DuckDBPyConnection, pods: list[Pod]) -> dict[Thing, list[Write]]:
    """Who evicted or deleted a pod of an owner, but for machinery."""
    owner = {(pod.namespace, pod.name): pod.owner for pod in pods}
    found: dict[Thing, list[Write]] = defaultdict(list)
    for namespace, name, at, audit_id in connection.execute(
        """SELECT namespace, name, received_at, audit_id FROM events
        WHERE resource = 'pods' AND code < 400 AND stage = 'ResponseComplete'
            AND (verb = 'delete' AND subresource IS NULL OR subresource = 'eviction')
            AND NOT starts_with("user", 'system:serviceaccount:kube-system:')
            AND NOT starts_with("user", 'system:node:') AND NOT starts_with("user", 'system:kube-')
        ORDER BY received_at"""
    ).fetchall():
        if (namespace, name) in owner:
            found[owner[namespace, name]].append(Write(at, audit_id, matters=True))
    return found


def _writes(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[Thing, list[Write]], dict[Thing, Thing]]:
    """All writes of each workload, and which workload owns it."""
    kinds = ", ".join(f"'{kind}'" for kind in OWNERS.values())
    rows = connection.execute(
        f"""SELECT namespace, resource, name, received_at, audit_id, verb,
            coalesce(subresource, ''), CAST(response_object AS VARCHAR),
            CASE WHEN verb = 'patch' THEN CAST(request_object->'spec'->'template' AS VARCHAR) END
        FROM events
        WHERE resource IN ({kinds}) AND verb IN ('create', 'update', 'patch') AND code < 400
            AND subresource IS DISTINCT FROM 'status' AND stage = 'ResponseComplete'
        ORDER BY received_at"""
    ).fetchall()
    writes: dict[Thing, list[Write]] = defaultdict(list)
    above: dict[Thing, Thing] = {}
    before: dict[Thing, tuple[Any, Any]] = {}
    for namespace, resource, name, at, audit_id, verb, subresource, text, asked in rows:
        thing = (namespace, resource, name)
        answer = json.loads(text or "{}")
        meta, spec = answer.get("metadata") or {}, answer.get("spec") or {}
        for owner in meta.get("ownerReferences", ()):
            if owner.get("controller") and owner["kind"] in OWNERS:
                above[thing] = (namespace, OWNERS[owner["kind"]], owner["name"])
        template = None
        if not subresource:
            told = (spec.get(key) for key in ("template", "jobTemplate", "schedule", "suspend"))
            template = json.dumps(list(told), sort_keys=True)
        old = before.get(thing)
        new = (template or (old and old[0]), spec.get("replicas", old and old[1]))
        observed = (answer.get("status") or {}).get("observedGeneration")
        fresh = isinstance(observed, int) and meta.get("generation", 0) > observed
        # Of the first write of what was there before the log, the object itself tells.
        changed = new != old if old else subresource == "scale" or fresh
        # Some answers leave out what was asked of the template, as a restart does.
        changed = changed or not _shown(json.loads(asked or "null"), spec.get("template"))
        writes[thing].append(Write(at, audit_id, changed or verb == "create"))
        before[thing] = new
    return writes, above


def _shown(asked: Any, answer: Any) -> bool:
    """Whether an answer has what was asked for, of lists all members."""
    if isinstance(asked, dict) and isinstance(answer, dict):
        return all(_shown(value, answer.get(key)) for key, value in asked.items())
    if isinstance(asked, list) and isinstance(answer, list):
        return all(any(_shown(one, other) for other in answer) for one in asked)
    return asked is None or bool(asked == answer)


if __name__ == "__main__":
    try:
        main()
    except KubewitnessError as error:
        sys.exit(f"causes: {error}")
