"""A school morning to look at: recorded lines replayed as if it were now, with an outage in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from tocsin_server.clock import Clock, iso
from tocsin_server.demo.folder import HISTORY_US, Prepared
from tocsin_server.demo.live import Live
from tocsin_server.demo.outages import OUTAGES
from tocsin_server.demo.watch import hints, loaded_text, watching
from tocsin_server.errors import TocsinError
from tocsin_server.resources import alert_rules
from tocsin_server.rules import load_rules
from tocsin_server.visible import visible

__all__ = ["HISTORY_US", "OUTAGES", "Live", "Prepared", "run"]

#: Runs a server on a prepared folder, evaluating from a time (µs) on, until somebody stops it; tells its
#: address as soon as it listens.
Serve = Callable[[Prepared, int, Callable[[str], None]], None]


def run(folder: Path, fault: str, clock: Clock, show: Callable[[RenderableType], None], serve: Serve) -> None:
    """Loads the last half hour of a morning with the outage ``fault``, serves it, and lets it go on.

    Returns when ``serve`` does. Raises TocsinError for an unknown fault, and when the folder cannot be used.
    """
    if fault not in OUTAGES:
        raise TocsinError(f"there is no fault `{fault}`: choose {', '.join(OUTAGES)}")
    outage = OUTAGES[fault]

    def told(title: str) -> None:
        show(Text(f"{iso(clock())}  the person on call was told: {visible(title)}"))

    with Live(folder, outage, clock, told) as live, ExitStack() as stack:
        prepared = live.prepared
        show(loaded_text(prepared, load_rules([alert_rules()])))

        def ready(url: str) -> None:
            show(hints(outage, prepared, url))
            stack.enter_context(watching(prepared.data, url, show))

        serve(prepared, prepared.until_us - HISTORY_US, ready)
