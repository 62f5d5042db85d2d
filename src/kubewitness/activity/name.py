"""The name of an object without what a machine made up.

``settle-29561820-vl42p`` and ``settle-29561760-x7m2d`` are one CronJob's pods: ``settle-*``.
"""

from __future__ import annotations

import re

# The alphabet of generated suffixes leaves out vowels and look-alikes
# (k8s.io/apimachinery/pkg/util/rand).
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED = re.compile(
    rf"""(?:
      -[{_SAFE}]{{8,10}}-[{_SAFE}]{{5}}      # Deployment: ReplicaSet hash, pod suffix
    | -\d{{6,}}-[{_SAFE}]{{5}}               # CronJob: time, pod suffix
    | -\d{{6,}}                              # a time or a build number
    | -[{_SAFE}]{{5}}                        # generateName
    | -[{_SAFE}]{{8,10}}                     # ReplicaSet
    | [-.](?=[0-9a-f]*\d)[0-9a-f]{{7,}}      # a commit, an event's time in hex
    | -\d{{1,4}}                             # StatefulSet ordinal, node number
    )$""",
    re.X,
)
# Without any of these there is nothing to take off, which goes for most names.
_MADE_UP = re.compile(r"[-\d]")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
# A node is named by address in several clouds.
_DASHED_ADDRESS = re.compile(r"(?<=ip-)\d+-\d+-\d+-\d+")


def name_template(name: str) -> str:
    """The name without generated suffixes, each replaced by ``*``.

    >>> name_template("web-7d9c5b6f4d-x2x4z"), name_template("payments-db"), name_template("db-0")
    ('web-*', 'payments-db', 'db-*')
    """
    if not _MADE_UP.search(name):
        return name
    short = _DASHED_ADDRESS.sub("*", _UUID.sub("*", name))
    short, found = _GENERATED.subn("-*", short)
    # "dag-basket-3df0e8e" lost a commit; what is left may still end in one more suffix.
    return _GENERATED.sub("", short[:-2]) + "-*" if found else short
