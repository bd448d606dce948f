"""Deliveries: who was told what, when, and what the receivers answered."""

from __future__ import annotations

from typing import Any

from tocsin_server.clock import iso
from tocsin_server.config import Channel
from tocsin_server.notify.outbox import deliveries as ledger
from tocsin_server.web.params import Params
from tocsin_server.web.services import Services

_SHOWN = 200


def deliveries(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/deliveries``."""
    notify = services.settings.notify
    with services.state.reading() as session:
        rows = ledger(session, _SHOWN)
    return {
        "now": iso(services.clock()),
        "channels": [_channel(name, channel) for name, channel in notify.channels.items()],
        "routes": [{"severity": route.severity or "all", "to": list(route.to)} for route in notify.routes],
        "deliveries": rows,
        "limit": _SHOWN,
    }


def _channel(name: str, channel: Channel) -> dict[str, str]:
    """Where a channel leads; never a secret."""
    if channel.email:
        return {"name": name, "kind": "e-mail", "to": channel.email.to}
    url = channel.webhook.url if channel.webhook else ""
    return {"name": name, "kind": "webhook", "to": url if isinstance(url, str) else "address in a secret"}
