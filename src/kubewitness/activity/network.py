"""Where a request came from: the peer's address, its network and whether that is outside.

``sourceIPs`` is what the client claimed (X-Forwarded-For), then what proxies saw, and last the
TCP peer: only entries that a trusted proxy wrote can be believed, so the walk goes from the right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

# An address is taken for a proxy in front of the API server when it is the last of several for
# at least this share of all principals: no workload or person is everybody.
PROXY_SHARE = 0.8
_MAXIMUM_HOPS = 3
_CARRIER_GRADE = ipaddress.ip_network("100.64.0.0/10")


class Network(NamedTuple):
    """``prefix`` as CIDR (/16 of a private IPv4, /24 of a public one, /64 of IPv6);
    ``scope`` is loopback, private, public or unknown."""

    prefix: str
    scope: str


def peer_address(source_ips: Sequence[str], proxies: Collection[str] = ()) -> str:
    """The principal's address: the rightmost entry that is no trusted proxy.

    >>> peer_address(["10.0.0.1", "203.0.113.9"])           # a forged private address first
    '203.0.113.9'
    >>> peer_address(["10.8.0.4", "127.0.0.1"], {"127.0.0.1"})
    '10.8.0.4'
    """
    for address in reversed(source_ips):
        if address not in proxies:
            return address
    return source_ips[0] if source_ips else ""


def learn_proxies(last_seen: Sequence[tuple[Sequence[str], str]]) -> frozenset[str]:
    """Addresses that stand last for nearly everyone.

    ``last_seen`` are the distinct (sourceIPs, principal) pairs of a log. Only lists of at least
    two entries speak for a proxy: a lone address is the peer itself. Components that share a
    host with the API server and only ever come over loopback say nothing about it.
    """
    proxies: set[str] = set()
    for _ in range(_MAXIMUM_HOPS):
        through: dict[str, set[str]] = {}
        everyone: set[str] = set()
        for addresses, principal in last_seen:
            rest = list(addresses)
            if len(rest) > 1 or not _is_loopback(rest):
                everyone.add(principal)
            while rest and rest[-1] in proxies:
                rest.pop()
            if len(rest) > 1:
                through.setdefault(rest[-1], set()).add(principal)
        found = {
            address
            for address, principals in through.items()
            if len(principals) >= max(3, PROXY_SHARE * len(everyone))
        }
        if not found:
            break
        proxies |= found
    return frozenset(proxies)


def _is_loopback(addresses: Sequence[str]) -> bool:
    return all(network(address).scope == "loopback" for address in addresses)


@lru_cache(maxsize=4096)
def network(address: str) -> Network:
    """The network of an address.

    >>> network("10.42.3.7")
    Network(prefix='10.42.0.0/16', scope='private')
    >>> network("203.0.113.9")
    Network(prefix='203.0.113.0/24', scope='public')
    >>> network("not an address")
    Network(prefix='unknown', scope='unknown')
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Network("unknown", "unknown")
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return network(str(ip.ipv4_mapped))
        if ip.is_loopback:
            return Network("::1", "loopback")
        prefix = ipaddress.ip_network((ip, 64), strict=False)
        return Network(str(prefix), "private" if not ip.is_global else "public")
    if ip.is_loopback:
        return Network("127.0.0.0/8", "loopback")
    # The documentation ranges are not global, but nobody's inside either.
    private = any(ip in block for block in _PRIVATE) or ip in _CARRIER_GRADE
    prefix4 = ipaddress.ip_network((ip, 16 if private else 24), strict=False)
    return Network(str(prefix4), "private" if private else "public")


def subnet(address: str) -> str:
    """The smaller network around an address: clusters commonly give each node a block of at most
    this size for its pods.

    >>> subnet("10.42.3.7"), subnet("2001:db8:1:2::7"), subnet("not an address")
    ('10.42.3.0/24', '2001:db8:1:2::/64', 'unknown')
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 64), strict=False))


_PRIVATE = tuple(
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
)
