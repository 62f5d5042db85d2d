"""The roles and bindings that every API server makes for itself, from the audit log of a new one.

    python bench/rbac_defaults.py LOG...

Rewrites ``src/kubewitness/forensics/rbac/defaults.json``. The log has to hold the bodies of what
``system:apiserver`` creates under the label ``kubernetes.io/bootstrapping=rbac-defaults`` when it
starts for the first time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from kubewitness.forensics.rbac.policy import GROUP
from kubewitness.inquiry import opened

TARGET = Path(__file__).parents[1] / "src" / "kubewitness" / "forensics" / "rbac" / "defaults.json"
KEPT = ("kind", "metadata", "rules", "aggregationRule", "roleRef", "subjects")


def manifests(paths: list[str]) -> list[dict[str, Any]]:
    """The default objects in these logs, by kind, namespace and name."""
    with opened(paths, bodies=True) as (_, connection, _):
        bodies = connection.execute(
            """SELECT CAST(response_object AS VARCHAR) FROM events
            WHERE api_group = ? AND "user" = 'system:apiserver' AND verb = 'create'
                AND code = 201 AND response_object IS NOT NULL""",
            [GROUP],
        ).fetchall()
    found = {}
    for (body,) in bodies:
        manifest = msgspec.json.decode(body)
        metadata = manifest["metadata"]
        labels = metadata.get("labels", {})
        if labels.get("kubernetes.io/bootstrapping") != "rbac-defaults":
            continue
        manifest["metadata"] = {
            name: metadata[name] for name in ("name", "namespace", "labels") if metadata.get(name)
        }
        found[manifest["kind"], metadata.get("namespace", ""), metadata["name"]] = {
            name: manifest[name] for name in KEPT if manifest.get(name)
        }
    return [found[key] for key in sorted(found)]


def main() -> None:
    lines = [msgspec.json.encode(one).decode() for one in manifests(sys.argv[1:])]
    TARGET.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{TARGET.name}: {len(lines)} objects")


if __name__ == "__main__":
    main()
