"""Who vouched for a person, and from which network: what Django's data about a login says of it."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

#: Provider and what the name of a backend's class says; the first that is found.
_BACKENDS = (
    ("saml", r"saml"),
    ("google", r"google"),
    ("microsoft", r"microsoft|azure|entra"),
    ("clever", r"clever"),
    ("classlink", r"classlink"),
    ("oidc", r"oidc|openid"),
    ("oauth", r"oauth"),
    ("ldap", r"ldap"),
    ("remote_user", r"remote_?user"),
    ("password", r"model|password|email|username|^authenticationbackend"),
)

#: A key of the credentials that were refused, and the provider whose they are.
_CREDENTIALS = (("password", "password"), ("session_info", "saml"), ("remote_user", "remote_user"))


@lru_cache(maxsize=64)
def provider_of_backend(path: str) -> str:
    """`password`, `saml`, … for the dotted path of an authentication backend; else `other`."""
    name = path.rpartition(".")[2]
    return next((known for known, words in _BACKENDS if re.search(words, name, re.IGNORECASE)), "other")


def provider_of_credentials(credentials: Container[str]) -> str:
    """The same for the kind of credentials; what they are is not looked at."""
    return next((provider for key, provider in _CREDENTIALS if key in credentials), "other")


def provider_of_session(backend: str, session: Mapping[str, Any]) -> str | None:
    """The same as django-allauth keeps it in the session, perhaps since an earlier request of the login."""
    if not backend.startswith("allauth."):
        return None
    for record in reversed(session.get("account_authentication_methods") or ()):
        if record.get("method") == "socialaccount":
            return short_provider(str(record.get("provider")))
        if record.get("method") == "password":
            return "password"
    return None


def short_provider(name: str) -> str:
    """`saml` for a provider that is named by its entity id, an address; any other as it is."""
    return "saml" if ":" in name or "/" in name else name


def client_address(meta: Mapping[str, Any], trusted_proxies: int) -> str | None:
    """The peer's address or, behind so many proxies of ours, the one that the outermost of them has seen."""
    hops: list[str] = [hop.strip() for hop in meta.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if 0 < trusted_proxies <= len(hops):
        return hops[-trusted_proxies]
    peer: str | None = meta.get("REMOTE_ADDR")
    return peer
