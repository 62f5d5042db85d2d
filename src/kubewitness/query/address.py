"""Whether an address lies in a network, decided alike by Python and by SQL.

Addresses in a log are texts. An IPv4 address that is written as IPv6 (``::ffff:10.0.0.1``) is
the IPv4 address; what is no address lies in no network.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

# The texts that are an octet to ipaddress, which refuses leading zeros.
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"


@lru_cache(maxsize=1024)
def network(text: str) -> Network:
    """The network that ``text`` names, host bits ignored; an address is a network of itself.
    Raises ``ValueError`` for anything else.

    >>> network("10.1.2.3/8"), network("::ffff:10.0.0.1")
    (IPv4Network('10.0.0.0/8'), IPv4Network('10.0.0.1/32'))
    """
    if "/" in text:
        return ip_network(text, strict=False)
    found = address(text)
    if found is None:
        raise ValueError(f"{text!r} is no address")
    return ip_network(found)


@lru_cache(maxsize=65536)
def address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that ``text`` is, without its zone.

    >>> address("fe80::1%eth0"), address("unknown")
    (IPv6Address('fe80::1'), None)
    """
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found


def within(text: str, home: Network) -> bool:
    """
    >>> within("203.0.113.9", network("203.0.113.0/24")), within("", network("0.0.0.0/0"))
    (True, False)
    """
    found = address(text)
    # ipaddress finds no IPv4 address in an IPv6 network, and the other way round.
    return found is not None and found in home


def pattern(home: IPv4Network) -> str:
    """The regular expression of exactly the texts without a colon that lie in ``home``.

    >>> pattern(network("10.0.0.0/7")).partition("[.]")[0]
    '(?:10|11)'
    """
    octets = []
    for lowest, highest in zip(home[0].packed, home[-1].packed, strict=True):
        some = "|".join(str(number) for number in range(lowest, highest + 1))
        octets.append(_OCTET if (lowest, highest) == (0, 255) else f"(?:{some})")
    return "[.]".join(octets) + "(?:%.*)?"
