"""What can go wrong on the way to an answer."""

from __future__ import annotations

from typing import Literal

from tocsin_server.errors import TocsinError

#: Why there is no answer; words that a ``health.check`` event carries as its reason.
Failure = Literal["refused_address", "dns", "tls", "timeout", "connection", "protocol"]


class RequestFailed(TocsinError):  # noqa: N818 - the name is the sentence
    """There is no answer; ``failure`` says why in one word."""

    def __init__(self, failure: Failure, message: str) -> None:
        self.failure: Failure = failure
        super().__init__(message)


def refused(reason: str) -> RequestFailed:
    """The failure of a request that was not sent at all."""
    return RequestFailed("refused_address", f"refused: {reason}")
