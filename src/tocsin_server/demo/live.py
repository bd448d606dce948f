"""The morning goes on: lines are written when their time comes, the platform answers, somebody is on call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.demo.folder import Prepared, prepare
from tocsin_server.demo.morning import Morning
from tocsin_server.demo.outages import BEGAN_BEFORE_US, Outage
from tocsin_server.demo.upstream import Upstream
from tocsin_server.notify.receivers import Received, WebhookReceiver

#: The demo's morning goes on for this long.
_LASTS_US = 24 * 3600 * SECOND_US


class Live:
    """The world around the server: log, platform and receiver. ``told`` gets the title of each message that
    the person on call receives.

    Entering prepares the folder (see :func:`~tocsin_server.demo.folder.prepare`), leaving stops everything.
    """

    def __init__(
        self, folder: Path, outage: Outage, clock: Clock, told: Callable[[str], None], seed: int = 1
    ) -> None:
        self._folder, self._outage, self._clock, self._told = folder, outage, clock, told
        self._seed = seed
        self._stack = ExitStack()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            upstream = stack.enter_context(Upstream(self._outage.name))
            receiver = stack.enter_context(WebhookReceiver(on_message=self._received))
            now_us = self._clock()
            self._morning = Morning(self._seed, self._outage, now_us - BEGAN_BEFORE_US)
            self.prepared: Prepared = prepare(
                self._folder, now_us, self._morning, upstream.url, receiver.url, self._clock
            )
            writer = threading.Thread(target=self._write, name="demo", daemon=True)
            writer.start()
            stack.callback(writer.join)
            stack.callback(self._stopping.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _write(self) -> None:
        """Each line at its time."""
        from_us = self.prepared.until_us
        with self.prepared.log.open("ab", buffering=0) as log:
            for at_us, line in self._morning.lines(from_us, from_us + _LASTS_US):
                if self._stopping.wait(max(0, at_us - self._clock()) / SECOND_US):
                    return
                log.write(line + b"\n")

    def _received(self, received: Received) -> None:
        self._told(str(received.body["tocsin"]["title"]))
