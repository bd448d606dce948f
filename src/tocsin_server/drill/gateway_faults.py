"""Faults of the AI gateway and its providers: what AIGatewayDown and AIProviderErrors find."""

from __future__ import annotations

from functools import partial

from tocsin_server.drill.fault import Change, Fault, When, all_of, anything, becomes, vanishes
from tocsin_server.drill.traffic import GATEWAY

_down = partial(Fault, alert="AIGatewayDown", runbook="ai-gateway-errors")
_failing = partial(Fault, alert="AIProviderErrors", runbook="ai-gateway-errors")


def _check(reason: str, http_status: int | None = None) -> Change:
    """Every health check of the gateway fails."""
    return becomes("health.check", status="failure", reason=reason, http_status=http_status)


def _request(http_status: int, error: str, source: str = "provider", when: When = anything) -> Change:
    """Nearly all requests of the gateway fail, or those of one provider or model."""
    fields = {"status": "error", "http_status": http_status, "error": error, "error_source": source}
    return becomes("ai.request", 0.97, when, tokens=None, **fields)


_openai = partial(_request, when=lambda f: f["provider"] == "openai")
_one_model = partial(_request, when=lambda f: f["model"] == "gpt-4o-mini")

GATEWAY_FAULTS = (
    _down(
        "gateway-down",
        cause="gateway-down",
        change=all_of(
            _check("connection"), vanishes("ai.request"), vanishes("log.heartbeat", service=GATEWAY)
        ),
    ),
    _down(
        "gateway-defect",
        cause="gateway-defect",
        change=all_of(_check("http_500", 500), _request(500, "KeyError", "gateway")),
    ),
    _down("probe-token", cause="probe-token-rejected", change=_check("http_401", 401)),
    _down(
        "service-token",
        cause="service-token-mismatch",
        change=all_of(_check("http_401", 401), _request(401, "Unauthorized", "caller")),
    ),
    _down("no-provider-key", cause="no-provider-key", change=_check("degraded", 200)),
    _down("gateway-redirects", cause=None, change=_check("redirect", 302)),
    _failing("provider-outage", cause="provider-outage", change=_openai(503, "ServiceUnavailable")),
    _failing("provider-key", cause="provider-key-rejected", change=_openai(401, "AuthenticationError")),
    _failing("provider-rate-limit", cause="provider-rate-limit", change=_openai(429, "RateLimitError")),
    _failing("no-provider-reachable", cause="no-provider-reachable", change=_request(502, "ConnectError")),
    _failing("model-retired", cause="model-retired", change=_one_model(404, "NotFoundError")),
    _failing(
        "empty-streams",
        cause="silent-stream-failure",
        change=all_of(
            _request(418, "StreamBroken"),
            becomes("ai.invocation", when=lambda f: f["mode"] == "stream", completion_tokens=0),
        ),
    ),
    _failing("bad-requests", cause=None, change=_request(400, "BadRequestError")),
)
