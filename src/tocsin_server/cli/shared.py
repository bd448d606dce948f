"""What the commands share: their options, where the data is, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tocsin_server.clock import real_clock
from tocsin_server.config import data_dir
from tocsin_server.errors import TocsinError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data folder. (default: $TOCSIN_DATA, else tocsin.yaml's, else ./tocsin-data)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Rules = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="DIR",
        help="Alert rules. (default: ./ops/alerts if it exists, else the shipped ones)",
    ),
]
Lines = Annotated[list[Path], typer.Argument(metavar="PATH…|-", help="Log files, or - for standard input.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="A Tocsin server elsewhere. (default: $TOCSIN_URL, else --data)"
    ),
]

#: Columns of a table that is read by a program or a file, not a terminal.
_PIPED_WIDTH = 160


def say(message: str) -> None:
    """One line on stderr."""
    from tocsin_server.visible import visible

    print(f"tocsin: {visible(' '.join(message.split()))}", file=sys.stderr)


def show(renderable: Any) -> None:
    """Something for people, on stdout."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(highlight=False, soft_wrap=False, width=width).print(renderable)


def open_store(data: Path | None) -> Any:
    """The data folder for reading, with everything that was acknowledged: a server that runs on it is asked
    to finish what it holds; what a crashed writer left in the spool is sealed, if nobody writes.
    """
    from tocsin_server.client import running
    from tocsin_server.load import Options
    from tocsin_server.sources import recover_spool
    from tocsin_server.store import Store

    folder = data_dir(data)
    store = Store.open(folder)
    if store.has_spooled_lines():
        server = running(folder)
        if server is not None:
            server.post("/api/v1/flush", {})
            return store
        try:
            with store.writing():
                tell(recover_spool(store, Options()))
        except TocsinError:
            pass  # somebody writes: those lines are theirs to seal
    return store


@contextmanager
def installation(data: Path | None, url: str | None) -> Iterator[Any]:
    """The API of an installation: of the server at ``url``, of the one that runs on the data folder, or of
    the folder itself when none does.
    """
    from tocsin_server.client import at_url, running

    url = url or (os.environ.get("TOCSIN_URL") if data is None else None)
    if url:
        yield at_url(url, os.environ.get("TOCSIN_TOKEN"))
        return
    folder = data_dir(data)
    server = running(folder)
    if server is not None:
        yield server
        return
    from tocsin_server.app import offline

    with offline(folder) as client:
        yield client


def print_json(value: object) -> None:
    """For programs: plain ASCII, one document."""
    print(json.dumps(value, indent=2))


def tell(recovery: Any) -> None:
    """Damage that was found in the spool is never passed over in silence."""
    if recovery.quarantined_bytes or recovery.truncated_bytes:
        print(
            f"tocsin: the spool of a stopped process was damaged: {recovery.quarantined_bytes:,} bytes are in"
            f" quarantine, {recovery.truncated_bytes:,} bytes were never acknowledged and are cut",
            file=sys.stderr,
        )


@contextmanager
def history(paths: Sequence[Path] | None, data: Path | None) -> Iterator[Any]:
    """The store of the given files, else the data folder."""
    from tocsin_server.history import temporary_store

    if not paths:
        with closing(open_store(data)) as store:
            yield store
        return
    with (
        progress_bar(total_bytes(paths)) as progress,
        temporary_store(paths, real_clock, progress) as (store, _),
    ):
        yield store


def rules_folder(given: Path | None) -> Path:
    """Where the alert rules are."""
    from tocsin_server.resources import alert_rules

    local = Path("ops/alerts")
    return given or (local if local.is_dir() else alert_rules())


def instant(option: str, text: str | None) -> int | None:
    """The time (µs) that an option says, to the second."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TocsinError(f"{option} {text!r} is no time: write it like 2026-11-23T07:55:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp()) * 1_000_000


def total_bytes(paths: Sequence[Path]) -> int | None:
    """Bytes to read, if that can be known."""
    if any(not path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)


@contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's stderr; elsewhere nothing."""
    if not sys.stderr.isatty() or (total is not None and total < 64 << 20):
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("loading", total=total)
        yield lambda count: bar.advance(task, count)
