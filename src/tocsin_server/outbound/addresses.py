"""Which addresses a request may reach: the rule against requests that people did not mean (row I15)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal

Address = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")


def literal(host: str) -> Address | None:
    """The address that ``host`` is, in any form that is one; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def refusal(host: str, addresses: Sequence[str], private_hosts: frozenset[str]) -> str:
    """Why a request to ``host`` (lower case), which has these addresses, is refused; empty when it may go.

    One address that may not be reached refuses the name: else the order of a DNS answer would decide.
    """
    if host.rstrip(".") in {name.lower().rstrip(".") for name in private_hosts}:
        return ""
    consents = host == "localhost" or str(literal(host)) == host
    for text in addresses:
        address = ip_address(text)
        kind = _kind(_final(address))
        meant = consents and kind == "private" and _final(address) == address
        if kind != "public" and not meant:
            return (
                f"{host} is {text}, a {kind} address; add it to private_hosts in tocsin.yaml if it is meant"
            )
    return ""


def _final(address: Address) -> Address:
    """Where a packet ends: the IPv4 address within a mapped, NAT64, 6to4 or Teredo one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, address))[1]


def _kind(address: Address) -> Literal["public", "private", "special"]:
    """``private`` may be meant (also loopback and shared address space), ``special`` hardly ever is."""
    if address.is_loopback:
        return "private"
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "special"
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return "public" if address.is_global and not site_local else "private"
