"""``auth.login`` by hand: for OAuth and SAML callbacks, and for whatever refuses a login before it begins.

    with tocsin.auth.login("google", client_network=address) as attempt:
        if "error" in params:
            attempt.fail(params["error"])
        ...
        attempt.tenant_id = tenant.id

No name, e-mail address or token goes in or out: a reason is one of ``REASONS``, or `other`.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from tocsin.emitter import emit

_OURS = """
missing_auth_payload unsupported_provider tenant_not_found identity_missing email_missing user_not_found
user_inactive record_invalid signup_closed invalid_credentials invalid_state invalid_assertion
expired_assertion timeout unreachable interrupted unexpected_error provider_error
"""

#: RFC 6749 §4.1.2.1 and §5.2, and OpenID Connect Core §3.1.2.6.
_OAUTH = """
access_denied invalid_request unauthorized_client unsupported_response_type invalid_scope server_error
temporarily_unavailable invalid_client invalid_grant unsupported_grant_type interaction_required
login_required account_selection_required consent_required
"""

#: Why a login fails: the values of ``reason``.
REASONS = frozenset(_OURS.split()) | frozenset(_OAUTH.split())

#: What providers and libraries call the same: SAML status codes (the end of their URN) and messages.
_ALIASES = {
    "AuthnFailed": "invalid_credentials",
    "InvalidNameIDPolicy": "invalid_request",
    "NoAuthnContext": "interaction_required",
    "NoPassive": "login_required",
    "RequestDenied": "access_denied",
    "RequestUnsupported": "invalid_request",
    "Requester": "invalid_request",
    "Responder": "server_error",
    "UnknownPrincipal": "user_not_found",
    "VersionMismatch": "invalid_request",
    "csrf_detected": "invalid_state",
    "mismatching_state": "invalid_state",
    "invalid_ticket": "invalid_assertion",
    "user_cancelled_authorize": "access_denied",
    "user_cancelled_login": "access_denied",
    "user_denied": "access_denied",
}


def reason(code: object) -> str:
    """The reason in ``REASONS`` for a ``code``: an OAuth ``error``, a SAML status code or one of them itself.

    `other` for anything else, so that what comes from outside neither names a person nor makes new values.
    """
    name = code.rpartition(":")[2] if isinstance(code, str) else ""
    name = _ALIASES.get(name, name)
    return name if name in REASONS else "other"


def reason_of(error: BaseException) -> str:
    """The reason for an exception: the OAuth error that it carries, or what its class says."""
    told = reason(getattr(error, "error", None))
    if told != "other":
        return told
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    if "Timeout" in names:
        return "timeout"
    return "unreachable" if "ConnectionError" in names else "unexpected_error"


class Attempt:
    """One login that is going on. It succeeds unless it is said, or an exception says, otherwise.

    ``tenant_id`` and ``client_network`` (the client's address; only a hash of its network is printed) can be
    set as soon as they are known.
    """

    __slots__ = ("client_network", "error", "provider", "reason", "status", "tenant_id")

    def __init__(self, provider: str, tenant_id: object = None, client_network: str | None = None) -> None:
        """``provider`` is `google`, `saml`, `password`, …"""
        self.provider = provider
        self.tenant_id = tenant_id
        self.client_network = client_network
        self.status = "success"
        self.reason: str | None = None
        self.error: str | None = None

    def fail(self, code: str) -> None:
        """It failed: ``code`` is one of ``REASONS``, or an OAuth or SAML code that :func:`reason` knows."""
        self.status, self.reason = "failure", reason(code)

    def cancelled(self, code: str = "access_denied") -> None:
        """The person went back: neither a success nor a failure."""
        self.status, self.reason = "cancelled", reason(code)

    def raised(self, error: BaseException) -> None:
        """``error`` ended it; what was said before remains."""
        if self.status == "success":
            self.fail(reason_of(error) if isinstance(error, Exception) else "interrupted")
            self.error = type(error).__name__
            if self.reason in ("access_denied", "interrupted"):
                self.status = "cancelled"

    def emit(self) -> None:
        """Prints it."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        emit("auth.login", **fields)


_current: ContextVar[Attempt | None] = ContextVar("tocsin_login", default=None)


def current() -> Attempt | None:
    """The attempt whose ``with`` block we are in; other instrumentation adds to it instead of printing."""
    return _current.get()


class login:  # noqa: N801  # read as a verb: `with login("google") as attempt:`
    """Prints one `auth.login` at the end of the ``with`` block, which yields the :class:`Attempt`.

    An exception is a failure with a reason, and goes on; one that says that the person declined, or the end
    of the task itself, is status `cancelled`. Works the same inside a coroutine.
    """

    __slots__ = ("_attempt", "_token")
    _token: Token[Attempt | None]

    def __init__(self, provider: str, *, tenant_id: object = None, client_network: str | None = None) -> None:
        """What is known before."""
        self._attempt = Attempt(provider, tenant_id, client_network)

    def __enter__(self) -> Attempt:
        """The attempt begins."""
        self._token = _current.set(self._attempt)
        return self._attempt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Prints it; an exception goes on."""
        with suppress(ValueError):  # left in another context than entered: a generator closed elsewhere
            _current.reset(self._token)
        if error is not None:
            self._attempt.raised(error)
        self._attempt.emit()


def throttled(provider: str, *, tenant_id: object = None, client_network: str | None = None) -> None:
    """A rate limiter refused a login before it began, which no other event would tell."""
    attempt = Attempt(provider, tenant_id, client_network)
    attempt.status = "throttled"
    attempt.emit()
