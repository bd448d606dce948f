"""`auth.login` of django-allauth: social logins with their provider, and why they failed."""

from __future__ import annotations

import re
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter as account_adapter
from allauth.socialaccount.adapter import get_adapter as social_adapter
from allauth.socialaccount.signals import pre_social_login

from tocsin import auth
from tocsin.guard import GUARD
from tocsin.instrumentation import django
from tocsin.instrumentation.logins import short_provider


def instrument(*, trusted_proxies: int = 0) -> None:
    """As ``instrument("django")``, which is included, and for social logins; again does nothing more.

    Call it when the applications are loaded, in ``AppConfig.ready``: it observes the two adapters that the
    settings name.
    """
    django.instrument(trusted_proxies=trusted_proxies)
    pre_social_login.connect(_vouched, dispatch_uid="tocsin")
    _observe(type(social_adapter()), "on_authentication_error", _social_failure)
    _observe(type(account_adapter()), "validation_error", _refusal)


def _observe(adapter: Any, name: str, observer: Any) -> None:
    """Has ``observer`` called with the arguments of each call of the adapter's method."""
    method = getattr(adapter, name)
    if hasattr(method, "tocsin_observed"):
        return

    @wraps(method)
    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            observer(self, *args, **kwargs)
        except Exception as error:
            GUARD.failed("allauth", error)
        return method(self, *args, **kwargs)

    observed.tocsin_observed = True  # type: ignore[attr-defined]
    setattr(adapter, name, observed)


def _vouched(request: Any, sociallogin: Any, **_: Any) -> None:
    """The provider knows the person; the login itself follows."""
    provider = getattr(sociallogin.provider, "id", None) or short_provider(sociallogin.account.provider)
    request.META[django.PROVIDER_KEY] = provider


def _social_failure(
    adapter: Any,
    request: Any,
    provider: Any,
    error: Any = None,
    exception: BaseException | None = None,
    extra_context: Any = None,
) -> None:
    """django-allauth is about to show that a social login failed."""
    attempt = auth.current() or auth.Attempt(getattr(provider, "id", "other"))
    if error == "cancelled":
        attempt.cancelled()
    else:
        attempt.fail(_reason(request, error, exception, extra_context or {}))
    django.report(attempt, request)


def _reason(request: Any, error: Any, exception: BaseException | None, context: Any) -> str:
    """The most telling of what there is."""
    if "saml_errors" in context:
        expired = "expired" in str(context.get("saml_last_error_reason"))
        return "expired_assertion" if expired else "invalid_assertion"
    if "error" in request.GET:
        return auth.reason(request.GET["error"])
    if exception is not None:
        # The token endpoint's answer is quoted in the text; only the code is taken out of it.
        codes = re.findall(r"invalid_[a-z]+|unauthorized_client", str(exception))
        return auth.reason(codes[0]) if codes else auth.reason_of(exception)
    if "state_id" in context:
        return "invalid_state"
    return "access_denied" if error == "denied" else "provider_error"


def _refusal(adapter: Any, code: str, *_: Any, **__: Any) -> None:
    """django-allauth's own rate limit refuses before the password is looked at."""
    if code == "too_many_login_attempts":
        attempt = auth.Attempt("password")
        attempt.status = "throttled"
        django.report(attempt, getattr(adapter, "request", None))
