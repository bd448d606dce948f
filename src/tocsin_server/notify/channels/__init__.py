"""Ways to reach people, an open set.

A channel is a row of :data:`CHANNELS`; its settings are the field of the same name in
:class:`tocsin_server.config.Channel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tocsin_server.config import Channel
from tocsin_server.notify.channels import email, webhook
from tocsin_server.notify.message import Delivery
from tocsin_server.notify.retry import Answer


class Sender(Protocol):
    """Makes one attempt to deliver, in bounded time. What went wrong is in the answer; a TocsinError says
    what the channel lacks (its secret is not set).
    """

    def __call__(self, channel: Channel, delivery: Delivery, private_hosts: frozenset[str]) -> Answer:
        """``private_hosts``: names that may resolve to private addresses."""


#: Kind of channel -> what sends through it.
CHANNELS: Mapping[str, Sender] = {"email": email.send, "webhook": webhook.send}


def kind_of(channel: Channel) -> str:
    """Which row of :data:`CHANNELS` a channel is."""
    return next(kind for kind in CHANNELS if getattr(channel, kind) is not None)
