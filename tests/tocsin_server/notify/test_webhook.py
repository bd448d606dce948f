"""The webhook: Alertmanager's payload, the signature, what leaves and what does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifying import LABELS, MINUTE_US, SECRET, START_US, FakeClock, bench, change, settings

from tocsin_server.clock import SECOND_US
from tocsin_server.config import Channel
from tocsin_server.errors import TocsinError
from tocsin_server.notify import send_test
from tocsin_server.notify.channels.webhook import send, signature, verify
from tocsin_server.notify.message import Delivery, trial_notice
from tocsin_server.notify.receivers import Received, Reply, WebhookReceiver

Told = Callable[..., list[Received]]


@pytest.fixture
def told(tmp_path: Path, receiver: WebhookReceiver) -> Told:
    """Tells the receiver of changes; what it received."""

    def tell(*changes: object) -> list[Received]:
        with bench(tmp_path, settings(oncall=receiver.url)) as at:
            at.observe(*changes)  # type: ignore[arg-type]
            at.run_for(MINUTE_US)
        return receiver.ledger

    return tell


def test_the_payload_is_alertmanagers(told: Told) -> None:
    (received,) = told(change())
    body = received.body
    assert {**body, "groupKey": "", "tocsin": {}} == {
        "version": "4",
        "groupKey": "",
        "truncatedAlerts": 0,
        "status": "firing",
        "notification_reason": "first",
        "receiver": "oncall",
        "groupLabels": {"alertname": "HighErrorRate", "service": "k12-core", "environment": "production"},
        "commonLabels": {
            "alertname": "HighErrorRate",
            "environment": "production",
            "service": "k12-core",
            "severity": "critical",
        },
        "commonAnnotations": body["alerts"][0]["annotations"],
        "externalURL": "http://127.0.0.1:8642",
        "alerts": [
            {
                "status": "firing",
                "labels": body["commonLabels"],
                "annotations": {
                    "action": "Check runbooks, consider rollback",
                    "description": "12.4% (> 5% 5xx responses in 5 min)",
                    "summary": "High Error Rate",
                },
                "startsAt": "2026-11-23T07:55:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://127.0.0.1:8642/alerts/HighErrorRate",
                "fingerprint": body["alerts"][0]["fingerprint"],
            }
        ],
        "tocsin": {},
    }
    assert body["tocsin"]["key"] == received.key == received.headers["webhook-id"]
    assert body["tocsin"]["attempt"] == 1
    assert {runbook["id"] for runbook in body["tocsin"]["runbooks"]} == {
        "deployment-rollback",
        "database-issues",
    }


def test_every_request_is_signed_as_standard_webhooks_says(told: Told) -> None:
    (received,) = told(change())
    assert received.verified
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    stamp = received.headers["webhook-timestamp"]
    assert int(stamp) == START_US // SECOND_US
    signed = f"{received.key}.{stamp}.{json.dumps(received.body, separators=(',', ':'))}".encode()
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert received.headers["webhook-signature"] == f"v1,{expected}"


def test_the_published_example_of_standard_webhooks() -> None:
    secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, message, "1614265330", b'{"test": 2432232314}') == expected


def test_the_lines_of_the_documentation_verify(told: Told) -> None:
    (received,) = told(change())
    page = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Callable[..., bool]] = {}
    exec(code, names)
    body = json.dumps(received.body, separators=(",", ":")).encode()
    assert names["verified"](SECRET, received.headers, body, START_US / SECOND_US)
    assert not names["verified"](SECRET, received.headers, body + b" ", START_US / SECOND_US)
    assert not names["verified"](SECRET, received.headers, body, START_US / SECOND_US + 301)


@given(st.binary(max_size=60), st.sampled_from(["body", "id", "timestamp", "secret", "old"]))
def test_a_changed_request_is_not_verified(body: bytes, changed: str) -> None:
    stamp = str(START_US // SECOND_US)
    headers = {"webhook-id": "k", "webhook-timestamp": stamp}
    headers["webhook-signature"] = "v1,AAAA " + signature("s", "k", stamp, body)
    assert verify("s", headers, body, START_US)
    secret, now = "s", START_US
    if changed == "body":
        body += b"x"
    elif changed == "id":
        headers["webhook-id"] = "l"
    elif changed == "timestamp":
        headers["webhook-timestamp"] = str(int(stamp) + 1)
    elif changed == "secret":
        secret = "t"
    else:
        now += 301 * SECOND_US
    assert not verify(secret, headers, body, now)


def test_a_secret_that_is_no_base64_is_told(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match="not Base64 after `whsec_`"):
        signature("whsec_é", "k", "1", b"")


def test_I11_hostile_labels_leave_escaped(told: Told) -> None:
    hostile = "core\r\nX-Injected: 1\x1b[31m\u202egnp.exe\u200b\x00\u2028<script>alert(1)</script>"
    (received,) = told(change(labels={**LABELS, "volume": hostile, "target": "jane.doe@school.example"}))
    text = json.dumps(received.body, ensure_ascii=False)
    assert not {c for c in text if c in "\r\n\x1b\u202e\u200b\x00\u2028"}
    assert "x-injected" not in received.headers
    assert "jane.doe" not in text
    assert "\\u202e" in received.body["alerts"][0]["labels"]["volume"]


def test_privacy_no_person_leaves(told: Told) -> None:
    canaries = ["jane.doe@school.example", "555-867-5309", "Bearer abc.def.ghi1234567", "203.0.113.77"]
    changes = [
        change(alert="DiskUsage", labels={"environment": canary, "volume": f"of {canary}", "user_id": canary})
        for canary in canaries
    ]
    changes = [change(alert="DiskUsage", labels=c.labels, severity="critical") for c in changes]
    text = json.dumps([received.body for received in told(*changes)])
    assert [canary for canary in canaries if canary in text] == []


def test_more_than_twenty_instances_are_counted(told: Told) -> None:
    (received,) = told(*(change(labels={**LABELS, "volume": str(n)}) for n in range(50)))
    assert len(received.body["alerts"]) == 20
    assert received.body["truncatedAlerts"] == 30
    assert received.body["tocsin"]["title"].startswith(
        "FIRING critical: High Error Rate, k12-core production: 50 firing, since 07:55 UTC"
    )


@pytest.mark.parametrize(
    ("reply", "outcome", "text"),
    [
        (Reply(202), "accepted", "HTTP 202"),
        (
            Reply(503, body="try\x1b[31m later, says bob@school.example"),
            "retry",
            "HTTP 503: try\\x1b[31m later, says <email>",
        ),
        (Reply(301), "refused", "HTTP 301"),
        (Reply(410, body="gone"), "refused", "HTTP 410: gone"),
        (Reply(drop=True), "retry", "protocol: "),
    ],
)
def test_what_the_receiver_answers_is_in_the_ledger(
    receiver: WebhookReceiver, reply: Reply, outcome: str, text: str
) -> None:
    receiver.script.append(reply)
    (attempt,) = send_test(settings(oncall=receiver.url), "oncall", receiver.clock)["attempts"]
    assert attempt["outcome"] == outcome
    assert attempt["answer"].startswith(text)


def test_a_receiver_that_is_not_there_and_an_address_that_is_not_allowed() -> None:
    nobody = send_test(settings(oncall="http://127.0.0.1:9/x"), "oncall", FakeClock())
    assert nobody["attempts"][0]["outcome"] == "retry"
    metadata = send_test(settings(oncall="http://169.254.169.254/latest"), "oncall", FakeClock())
    assert metadata["attempts"][0]["outcome"] == "refused"
    assert metadata["attempts"][0]["answer"].startswith("refused_address: ")


def test_an_address_in_a_secret_stays_out_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/services/T0/B0/canary")
    channel = Channel.model_validate({"webhook": {"url": {"env": "HOOK"}}})
    body = trial_notice("oncall", START_US)
    answer = send(channel, Delivery("k", 1, "oncall", "g", body, START_US, ""), frozenset())
    assert answer.outcome == "retry"
    assert "canary" not in answer.text


def test_a_test_message_is_marked(receiver: WebhookReceiver) -> None:
    told = send_test(settings(oncall=receiver.url), "oncall", receiver.clock)
    assert (told["status"], told["reason"], told["id"]) == ("delivered", "test", None)
    (received,) = receiver.ledger
    assert received.verified
    assert received.body["tocsin"]["mark"] == "TEST"
    assert received.body["alerts"][0]["annotations"]["summary"].startswith("TEST: notifications of Tocsin")


def test_an_unknown_channel_names_the_known_ones() -> None:
    with pytest.raises(TocsinError, match="there is no channel `oncal`: did you mean `oncall`"):
        send_test(settings(oncall="http://127.0.0.1:9"), "oncal", FakeClock())
    with pytest.raises(TocsinError, match=r"add it under notify.channels"):
        send_test(settings(), "oncall", FakeClock())


def test_a_missing_secret_is_told_and_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    told = settings(oncall="http://127.0.0.1:9")
    monkeypatch.delenv("TOCSIN_TEST_WEBHOOK_SECRET")
    (attempt,) = send_test(told, "oncall", FakeClock())["attempts"]
    assert attempt["outcome"] == "retry"
    assert attempt["answer"].startswith("the environment variable TOCSIN_TEST_WEBHOOK_SECRET is not set")
