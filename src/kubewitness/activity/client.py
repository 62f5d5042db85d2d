"""The client program, from the user agent it chose to send (hostile text, never proof)."""

from __future__ import annotations

import re
from typing import NamedTuple

_PRODUCT = re.compile(r"^\s*([^\s/();,]{1,64})(?:/(\S*))?")
_RELEASE = re.compile(r"v?(\d+)(?:\.(\d+))?")
_PLATFORM = re.compile(r"\(([a-zA-Z0-9_]+)[/;]\s*([a-zA-Z0-9_]+)\)")


class Client(NamedTuple):
    """``product`` in lower case, ``release`` as major.minor, ``platform`` as os/arch."""

    product: str
    release: str
    platform: str


def client(user_agent: str) -> Client:
    """Read a user agent as the Kubernetes client libraries write it
    (k8s.io/client-go/rest.DefaultKubernetesUserAgent).

    >>> client("kubectl/v1.33.4 (darwin/arm64) kubernetes/74cdb42")
    Client(product='kubectl', release='1.33', platform='darwin/arm64')
    >>> client("Fluent-Bit")
    Client(product='fluent-bit', release='', platform='')
    >>> client("").product
    'none'
    """
    found = _PRODUCT.match(user_agent)
    if not found:
        return Client("none" if not user_agent.strip() else "unreadable", "", "")
    release = _RELEASE.match(found[2] or "")
    platform = _PLATFORM.search(user_agent)
    return Client(
        found[1].lower(),
        ".".join(part for part in release.groups() if part) if release else "",
        f"{platform[1]}/{platform[2]}".lower() if platform else "",
    )
