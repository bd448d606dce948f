"""Faults of logging in: what AuthFailures and AuthThrottled find."""

from __future__ import annotations

from random import Random
from typing import Any

from tocsin_server.drill.fault import Change, Fault, becomes, more, unchanged
from tocsin_server.drill.traffic import CORE, TENANTS, Fields, Stream, network

_EVERYWHERE = {"tenant_id": list(TENANTS), "client_network": [network(tenant) for tenant in TENANTS]}


def _school(tenant: int) -> Fields:
    return {"tenant_id": tenant, "client_network": network(tenant)}


def _fault(
    name: str, cause: str | None, where: Fields, *, change: Change = unchanged, **fields: Any
) -> Fault:
    """A further login every 3 s; a list among the fields is gone through in turn."""
    every = {"provider": "google", "status": "failure", **where, **fields}

    def login(_rng: Random, index: int) -> Fields:
        return {k: v[index % len(v)] if isinstance(v, list) else v for k, v in every.items()}

    alert = "AuthThrottled" if every["status"] == "throttled" else "AuthFailures"
    return Fault(name, alert, "auth-failures", cause, change, more(Stream("auth.login", CORE, 3, login)))


LOGIN_FAULTS = (
    _fault(
        "saml-certificate",
        "one-districts-identity-provider",
        _school(4),
        provider="saml",
        reason="invalid_ticket",
    ),
    _fault(
        "brute-force", "brute-force", {**_EVERYWHERE, "client_network": network(99)}, reason="user_not_found"
    ),
    _fault("accounts-missing", "accounts-missing", _school(5), reason="user_not_found"),
    _fault("google-credentials", "google-credentials-rejected", _EVERYWHERE, reason="invalid_client"),
    _fault("cookie-lost", "session-cookie-lost", _EVERYWHERE, reason="invalid_state"),
    _fault(
        "csrf-rejected",
        "csrf-tokens-rejected",
        _EVERYWHERE,
        reason="authenticity_error",
        change=becomes(
            "api.request",
            0.95,
            lambda f: f["method"] != "GET",
            status=403,
            error="ActionController::InvalidAuthenticityToken",
        ),
    ),
    _fault(
        "logins-fail-for-many-reasons",
        None,
        _EVERYWHERE,
        reason=["email_missing", "record_invalid", "tenant_not_found"],
    ),
    _fault(
        "school-throttled",
        "school-throttled",
        {"client_network": network(3)},
        status="throttled",
        change=becomes("api.request", 0.3, status=429, route="/auth/google_oauth2", controller="rack/attack"),
    ),
)
