"""Sessions of people who logged in: kept here, not in the cookie, so that logging out really ends them.

Row O7 of the reliability bar: a session ends 12 h after the login, after 30 min without a request, at the
logout, and when the process ends.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field, replace
from threading import Lock

from tocsin_server.clock import SECOND_US, Clock

COOKIE = "tocsin_session"
LIFETIME_US = 12 * 3600 * SECOND_US
IDLE_US = 1800 * SECOND_US
#: More sessions than a team ever has; the oldest goes.
MAX_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class _Session:
    who: str
    opened_at: int
    used_at: int


@dataclass
class Sessions:
    """Open sessions by the SHA-256 of their secret."""

    clock: Clock
    _open: dict[str, _Session] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def open(self, who: str) -> str:
        """A new session; answers the secret for its cookie."""
        secret, now_us = secrets.token_urlsafe(32), self.clock()
        with self._lock:
            self._open = {key: one for key, one in self._open.items() if _alive(one, now_us)}
            while len(self._open) >= MAX_SESSIONS:
                del self._open[next(iter(self._open))]
            self._open[_key(secret)] = _Session(who, now_us, now_us)
        return secret

    def who(self, secret: str) -> str | None:
        """Whose session it is; None when there is none or it is over. Counts as use."""
        key, now_us = _key(secret), self.clock()
        with self._lock:
            session = self._open.get(key)
            if session is None or not _alive(session, now_us):
                self._open.pop(key, None)
                return None
            self._open[key] = replace(session, used_at=now_us)
        return session.who

    def close(self, secret: str) -> None:
        """Ends a session."""
        with self._lock:
            self._open.pop(_key(secret), None)


def _alive(session: _Session, now_us: int) -> bool:
    return now_us < session.opened_at + LIFETIME_US and now_us < session.used_at + IDLE_US


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
