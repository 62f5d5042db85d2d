"""Cut the example log of this repository from the capture of a real API server.

    python bench/cut_example.py CAPTURE

CAPTURE holds ``train.jsonl.zst`` (half an hour without attacks), ``test.jsonl.zst`` (the next half
hour, with attacks) and ``truth.jsonl`` (what was done in it). Of the cluster's own machinery one
request in ten is kept, chosen by its auditID; everything that people, workloads and strangers did
is kept, as is every event that ``truth.jsonl`` names. Lines are copied as they are. Writes
``examples/audit.jsonl.zst`` and the table of episodes in ``docs/example.md``.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

ROOT = Path(__file__).resolve().parent.parent
KEPT_OF_MACHINES = 10
MACHINES = (
    "system:node:",
    "system:serviceaccount:kube-system:",
    "system:kube-",
    "system:apiserver",
)
BEGIN, END = "<!-- episodes:begin -->", "<!-- episodes:end -->"


def main(capture: Path) -> None:
    """Write the log and the table."""
    episodes = [json.loads(line) for line in (capture / "truth.jsonl").read_text().splitlines()]
    labelled = {audit_id for episode in episodes for audit_id in episode["audit_ids"]}
    log = "".join(
        line
        for part in ("train", "test")
        for line in _lines(capture / f"{part}.jsonl.zst")
        if _kept(json.loads(line), labelled)
    ).encode()
    # A window of 8 MiB is what every decoder must accept (RFC 8878).
    settings = zstandard.ZstdCompressionParameters.from_level(19, window_log=23)
    packed = zstandard.ZstdCompressor(compression_params=settings).compress(log)
    (ROOT / "examples" / "audit.jsonl.zst").write_bytes(packed)
    page = ROOT / "docs" / "example.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{_table(episodes)}\n{END}{after}", encoding="utf-8")
    print(f"{len(log.splitlines()):,} lines, {len(log):,} bytes, {len(packed):,} compressed")


def _lines(path: Path) -> Iterator[str]:
    with zstandard.open(path, "rt", encoding="utf-8") as stream:
        yield from stream


def _kept(event: dict[str, Any], labelled: set[str]) -> bool:
    audit_id = event["auditID"]
    if audit_id in labelled or not event["user"].get("username", "").startswith(MACHINES):
        return True
    return zlib.crc32(audit_id.encode()) % KEPT_OF_MACHINES == 0


def _table(episodes: list[dict[str, Any]]) -> str:
    rows = ["| time (UTC) | who | from | what | events |", "|---|---|---|---|---|"]
    for kind, heading in (
        ("attack", "attack"),
        ("misconfiguration", "misconfiguration"),
        ("benign_change", "harmless"),
    ):
        told = [episode for episode in episodes if episode["label"] == kind]
        rows += [
            f"| {episode['start'][11:19]}–{episode['end'][11:19]}"
            f" | {', '.join(f'`{actor}`' for actor in episode['actors'])}"
            f" | {', '.join(episode['source_ips'])}"
            f" | {heading}: {episode['title'].replace(' (lookalike)', '')}"
            f" | {len(episode['audit_ids'])} |"
            for episode in sorted(told, key=lambda one: str(one["start"]))
        ]
    return "\n".join(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
