"""The ``tocsin`` command: arguments in, one function of the library, rows or JSON out.

Exit codes: 0 for success, 1 for "the answer is no" (faults found), 2 for wrong use. An error is one line on
stderr that says what to do next.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from tocsin_server.clock import real_clock
from tocsin_server.config import data_dir, load_settings
from tocsin_server.errors import TocsinError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turns the JSON lines that services already print into metrics, alerts, dashboards and incidents.",
)

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


def main() -> int:
    """Runs the command line; answers its exit code."""
    try:
        return int(app(standalone_mode=False) or 0)
    except TocsinError as error:
        return _fail(str(error))
    except Abort:
        return _fail("interrupted")
    except TyperException as error:
        if not error.format_message():
            return 2  # no command was given, and Typer has shown the help
        return _fail(f"{error.format_message()} (see `tocsin --help`)")
    except BrokenPipeError:  # the reader of our output has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that is gone: what was answered for is durable
        return _fail(f"{error}; correct that and run the command again")


def _fail(message: str) -> int:
    from tocsin_server.export.rows import visible

    print(f"tocsin: {visible(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tocsin {metadata.version('tocsin')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def ingest(
    paths: Lines,
    service: Annotated[str | None, typer.Option("--service", help="Service of lines that name none.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the source; gives standard input an identity.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Load lines durably. The same bytes add nothing under any name; a file that grew continues where it
    ended.
    """
    from tocsin_server.load import Books, Options
    from tocsin_server.sources import check_readable, load_file, load_stream, recover_spool, stop_signals
    from tocsin_server.store import Store

    started = time.perf_counter()
    for path in paths:
        check_readable(path)
    books = Books()
    with (
        closing(Store.create(data_dir(data))) as store,
        _progress(_total_bytes(paths)) as progress,
        store.writing(),
    ):
        options = Options(service=service, source=source, progress=progress)
        _tell(recover_spool(store, options))
        for path in paths:
            if str(path) == "-":
                with stop_signals() as stop:
                    books.add(load_stream(store, 0, real_clock, options, stop))
            else:
                books.add(load_file(store, path, real_clock, options))
        store.expire(real_clock())
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps(books.as_json() | {"seconds": round(seconds, 3)}))
    else:
        from tocsin_server.summary import books_text

        print(books_text(books, seconds))


@app.command()
def doctor(paths: Lines, rules: Rules = None, as_json: Json = False) -> None:
    """Say how well lines are understood, which alerts could work on them, and what is missing."""
    from tocsin_server.doctor import diagnose
    from tocsin_server.history import temporary_store
    from tocsin_server.rules.load import load_rules

    loaded = load_rules([_rules_folder(rules)])
    with (
        _progress(_total_bytes(paths)) as progress,
        temporary_store(paths, real_clock, progress) as (store, books),
    ):
        diagnosis = diagnose(store.connect(), books, loaded, store.manifest.dead_letters(limit=5))
    if as_json:
        print(json.dumps(diagnosis.as_json(), indent=2))
    else:
        from tocsin_server.summary import diagnosis_text

        _print(diagnosis_text(diagnosis))


class Format(StrEnum):
    """How ``tocsin query`` prints its answer."""

    table = "table"
    json = "json"
    csv = "csv"


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the table `events`.")],
    format_: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.table,
    as_json: Json = False,
    limit: Annotated[int, typer.Option("--limit", help="Most rows to print.", min=1, max=100_000)] = 5000,
    data: Data = None,
) -> None:
    """Ask one read-only SQL question about the events; `docs/events.md` lists the columns."""
    from tocsin_server.export import rows
    from tocsin_server.sql import Limits, guard, lock, run

    guard(sql)
    limits = Limits(rows=limit)
    with closing(_open(data)) as store, store.connect() as connection:
        lock(connection, [str(store.events.resolve())], limits.memory_bytes, threads=os.cpu_count() or 1)
        result = run(connection, sql, limits)
    if result.truncated:
        print(f"tocsin: only the first {limit:,} rows are shown; ask for more with --limit", file=sys.stderr)
    if as_json or format_ is Format.json:
        print(rows.as_json(result))
    elif format_ is Format.csv:
        sys.stdout.write(rows.as_csv(result))
    else:
        _print(rows.as_table(result))


@app.command()
def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH…]", help="Rule files, folders, tocsin.yaml. (default: ./tocsin.yaml, ./ops)"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Validate alert rules and settings: every fault at once, with file, line and what to do."""
    from tocsin_server.check import check_paths

    faults = check_paths(paths or None)
    if as_json:
        print(json.dumps({"faults": [fault.as_json() for fault in faults]}, indent=2))
    else:
        for fault in faults:
            print(fault)
        print(f"{len(faults)} fault{'' if len(faults) == 1 else 's'}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


@app.command()
def backtest(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Log files (- for standard input); without, the data folder."),
    ] = None,
    rules: Rules = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="T", help="First instant, ISO 8601.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="T", help="Last instant, ISO 8601.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also the rules about the alerting itself.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Replay the alert rules over history: which alerts would have fired, when, and why not."""
    from tocsin_server.backtest import backtest as replay
    from tocsin_server.rules.load import load_rules

    loaded = load_rules([_rules_folder(rules)])
    bounds = _instant("--from", from_), _instant("--to", to)
    expect = load_settings().expect
    with _history(paths, data) as store:
        connection = store.connect()
        report = replay(connection, loaded, *bounds, expect=expect, include_meta=all_)
        if as_json:
            print(json.dumps(report.as_json(), indent=2))
        else:
            from tocsin_server.summary import report_text
            from tocsin_server.why import silent

            severities = {rule.alert: rule.severity for rule in loaded}
            _print(report_text(report, silent(connection, loaded, report, expect), severities))
    for error in report.errors:
        print(f"tocsin: {error.alert} could not be evaluated: {error.message}", file=sys.stderr)


@app.command()
def demo() -> None:
    """Load lines recorded from a real Rails server and its Sidekiq worker, and show what Tocsin makes of
    them.
    """
    from tocsin_server.demo import run

    run(Path("tocsin-demo"), real_clock, _print)


# ---- shared by the commands ------------------------------------------------------------------------------


def _open(data: Path | None) -> Any:
    """The data folder for reading; what a crashed writer left in the spool is sealed first, if nobody
    writes.
    """
    from tocsin_server.load import Options
    from tocsin_server.sources import recover_spool
    from tocsin_server.store import Store

    store = Store.open(data_dir(data))
    if store.has_spooled_lines():
        try:
            with store.writing():
                _tell(recover_spool(store, Options()))
        except TocsinError:
            pass  # somebody writes: those lines are theirs to seal
    return store


def _tell(recovery: Any) -> None:
    """Damage that was found in the spool is never passed over in silence."""
    if recovery.quarantined_bytes or recovery.truncated_bytes:
        print(
            f"tocsin: the spool of a stopped process was damaged: {recovery.quarantined_bytes:,} bytes are in"
            f" quarantine, {recovery.truncated_bytes:,} bytes were never acknowledged and are cut",
            file=sys.stderr,
        )


@contextmanager
def _history(paths: Sequence[Path] | None, data: Path | None) -> Iterator[Any]:
    from tocsin_server.history import temporary_store

    if not paths:
        with closing(_open(data)) as store:
            yield store
        return
    with (
        _progress(_total_bytes(paths)) as progress,
        temporary_store(paths, real_clock, progress) as (store, _),
    ):
        yield store


def _rules_folder(given: Path | None) -> Path:
    from tocsin_server.resources import alert_rules

    local = Path("ops/alerts")
    return given or (local if local.is_dir() else alert_rules())


def _instant(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TocsinError(f"{option} {text!r} is no time: write it like 2026-11-23T07:55:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp()) * 1_000_000


def _total_bytes(paths: Sequence[Path]) -> int | None:
    """Bytes to read, if that can be known."""
    if any(not path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's stderr; elsewhere nothing."""
    if not sys.stderr.isatty() or (total is not None and total < 64 << 20):
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("loading", total=total)
        yield lambda count: bar.advance(task, count)


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=False).print(renderable)
