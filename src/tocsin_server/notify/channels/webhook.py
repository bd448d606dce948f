"""A message as a webhook: Alertmanager's JSON (version 4), signed as Standard Webhooks says.

What Alertmanager's format has no place for (incident, causes, who is affected) is under ``tocsin``; receivers
ignore fields that they do not know. docs/notifications.md has the whole payload.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tocsin_server import outbound
from tocsin_server.clock import SECOND_US
from tocsin_server.config import Channel, Secret, Webhook
from tocsin_server.errors import TocsinError
from tocsin_server.notify.message import Delivery, fingerprint
from tocsin_server.notify.retry import Answer, http_outcome, retry_after_us
from tocsin_server.notify.wording import shown

TIMEOUT_S = 10.0
#: A receiver refuses a signature older (or newer) than this: nobody can send a recorded request again.
TOLERANCE_S = 300
#: Alertmanager's way to write that an alert has not ended.
NOT_ENDED = "0001-01-01T00:00:00Z"
_NAME_OF_SECRET = "whsec_"  # noqa: S105 - the prefix that marks a secret, not one


def send(channel: Channel, delivery: Delivery, private_hosts: frozenset[str]) -> Answer:
    """Posts the message; raises TocsinError when the channel's secrets are not there."""
    webhook = channel.webhook
    assert webhook is not None
    body = json.dumps(payload(delivery), separators=(",", ":")).encode()
    headers = headers_for(delivery, body, webhook.secret.read() if webhook.secret else None)
    try:
        answer = outbound.request(
            "POST",
            _address(webhook),
            headers=headers,
            body=body,
            timeout_s=TIMEOUT_S,
            max_bytes=4096,
            private_hosts=private_hosts,
        )
    except outbound.RequestFailed as error:
        refused = error.failure == "refused_address"
        return Answer("refused" if refused else "retry", f"{error.failure}: {shown(str(error))}")
    said = shown(answer.body.decode(errors="replace"))
    text = f"HTTP {answer.status}" + (f": {said}" if said else "")
    asked = retry_after_us(answer.headers.get("retry-after"), delivery.at)
    return Answer(http_outcome(answer.status), text, asked)


def _address(webhook: Webhook) -> str:
    return webhook.url.read() if isinstance(webhook.url, Secret) else webhook.url


# --- the signature --------------------------------------------------------------------------------------


def headers_for(delivery: Delivery, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers of one attempt; without a secret there is no signature."""
    timestamp = str(delivery.at // SECOND_US)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Tocsin",
        "Idempotency-Key": delivery.key,
        "webhook-id": delivery.key,
        "webhook-timestamp": timestamp,
    }
    if secret is not None:
        headers["webhook-signature"] = signature(secret, delivery.key, timestamp, body)
    return headers


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the Base64 of HMAC-SHA256 over ``id.timestamp.body`` (Standard Webhooks).

    A secret that starts with ``whsec_`` is Base64 after it, any other is the key itself. Raises TocsinError
    when the Base64 is none.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key_bytes(secret), signed, hashlib.sha256)).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_us: int) -> bool:
    """Whether a request, header names in lower case, was signed with ``secret`` in the last five minutes."""
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now_us // SECOND_US - int(timestamp[:12])) > TOLERANCE_S:
        return False
    expected = signature(secret, headers.get("webhook-id", ""), timestamp, body).encode()
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, one) for one in given)


def _key_bytes(secret: str) -> bytes:
    if not secret.startswith(_NAME_OF_SECRET):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_NAME_OF_SECRET), validate=True)
    except ValueError:
        raise TocsinError("the webhook's secret is not Base64 after `whsec_`; copy it again") from None


# --- the payload ----------------------------------------------------------------------------------------


def payload(delivery: Delivery) -> dict[str, Any]:
    """The JSON that is posted. Only ``tocsin.attempt`` differs from attempt to attempt."""
    body = delivery.body
    alerts = [_alert(member, delivery) for member in body["members"]] or [_notice(delivery)]
    return {
        "version": "4",
        "groupKey": hashlib.sha256(delivery.group_key.encode()).hexdigest()[:32],
        "truncatedAlerts": body["more"],
        "status": body["status"],
        "notification_reason": body["reason"],
        "receiver": delivery.channel,
        "groupLabels": body["group"],
        "commonLabels": _common([alert["labels"] for alert in alerts]),
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "externalURL": delivery.base_url,
        "alerts": alerts,
        "tocsin": {
            "key": delivery.key,
            "attempt": delivery.attempt,
            **{name: body[name] for name in ("title", "mark", "firing", "resolved", "incident")},
            **{name: body[name] for name in ("affected", "causes", "runbooks")},
        },
    }


def _alert(member: Mapping[str, Any], delivery: Delivery) -> dict[str, Any]:
    mark = {"tocsin_mark": delivery.body["mark"]} if delivery.body["mark"] else {}
    notes = {"summary": member["title"], "description": member["measured"], "action": member["action"]}
    return {
        "status": member["status"],
        "labels": {
            "alertname": member["alert"],
            "severity": member["severity"],
            **member["labels"],
            **mark,
        },
        "annotations": {name: text for name, text in notes.items() if text},
        "startsAt": member["fired_at"],
        "endsAt": member["resolved_at"] or NOT_ENDED,
        "generatorURL": f"{delivery.base_url}/alerts/{member['alert']}",
        "fingerprint": member["fingerprint"],
    }


def _notice(delivery: Delivery) -> dict[str, Any]:
    """What is about no instance, as the one alert that Alertmanager's receivers expect at least."""
    body = delivery.body
    labels = {"severity": body["severity"], **body["group"]}
    return {
        "status": body["status"],
        "labels": labels,
        "annotations": {"summary": body["title"]},
        "startsAt": NOT_ENDED,
        "endsAt": NOT_ENDED,
        "generatorURL": delivery.base_url,
        "fingerprint": fingerprint("", labels),
    }


def _common(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    shared = set.intersection(*(set(one.items()) for one in maps))
    return dict(sorted(shared))
