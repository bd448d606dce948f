"""Keyed hashes of ids and of networks."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from ipaddress import ip_address


class Pseudonyms:
    """Keyed hashes of ids: (tenant, raw id) -> ``u_`` and 16 hex digits; the same id under another tenant
    differs.

    ``key(tenant_id)`` returns the secret of a tenant (at least 16 bytes, kept in state; deleting it erases
    linkability) and, for None, that of the installation. An id that already looks like a pseudonym is
    hashed again. The cache holds at most ``limit`` answers and is emptied when full.
    """

    def __init__(self, key: Callable[[str | None], bytes], limit: int = 65_536) -> None:
        """``key`` is asked once for each new (tenant, id)."""
        self._key = key
        self._limit = limit
        self._known: dict[tuple[str | None, str], str] = {}

    def __call__(self, tenant_id: str | None, raw: str) -> str:
        """``u_`` and the first 16 hex digits of HMAC-SHA-256(key of the tenant, raw)."""
        known = self._known.get((tenant_id, raw))
        if known is None:
            known = "u_" + _hmac16(self._key(tenant_id), raw)
            self._remember((tenant_id, raw), known)
        return known

    def network(self, day: int, address: str) -> str:
        """``n_`` and 16 hex digits for the /24 (IPv4) or /48 (IPv6) of an address, under the key of that
        UTC day.

        ``day`` counts from 1970-01-01. A prefix that the emitter hashed (``n_…``) is hashed again; what is
        neither gives ``<ip>``.
        """
        prefix = address if _HASHED_NETWORK.fullmatch(address) else network_prefix(address)
        if prefix is None:
            return "<ip>"
        daily = hmac.digest(self._key(None), f"network {day}".encode(), "sha256")
        return "n_" + _hmac16(daily, prefix)

    def _remember(self, question: tuple[str | None, str], answer: str) -> None:
        if len(self._known) >= self._limit:
            self._known.clear()
        self._known[question] = answer


_HASHED_NETWORK = re.compile(r"n_[0-9a-f]{16}")


def _hmac16(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()[:16]


def network_prefix(address: str) -> str | None:
    """``203.0.113.0/24`` or ``2001:db8:7::/48`` of an address, a port and brackets allowed; None if it is
    none.
    """
    text = address.strip().split(",")[0].strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    if mapped.version == 4:
        return ".".join(str(mapped).split(".")[:3]) + ".0/24"
    return ":".join(mapped.exploded.split(":")[:3]) + "::/48"
