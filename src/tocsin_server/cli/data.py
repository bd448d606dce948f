"""Commands about lines and files: ingest, doctor, query, check, backtest. They need no server, and go through
one that runs on the folder.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from tocsin_server.cli.shared import (
    Data,
    Json,
    Lines,
    Rules,
    Url,
    history,
    instant,
    open_store,
    progress_bar,
    rules_folder,
    say,
    show,
    tell,
    total_bytes,
)
from tocsin_server.clock import real_clock
from tocsin_server.config import data_dir, load_settings

if TYPE_CHECKING:  # a command imports what it needs when it runs: `tocsin --help` stays quick
    from tocsin_server.client import Client
    from tocsin_server.load import Books


def ingest(
    paths: Lines,
    service: Annotated[str | None, typer.Option("--service", help="Service of lines that name none.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the source; gives standard input an identity.")
    ] = None,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Load lines durably. The same bytes add nothing under any name; a file that grew continues where it
    ended.
    """
    from tocsin_server.client import at_url, running
    from tocsin_server.sources import check_readable

    started = time.perf_counter()
    for path in paths:
        check_readable(path)
    folder = data_dir(data)
    url = url or (os.environ.get("TOCSIN_URL") if data is None else None)
    server = at_url(url, os.environ.get("TOCSIN_TOKEN")) if url else running(folder)
    books = (
        _ingest_here(folder, paths, service, source)
        if server is None
        else _ingest_there(server, paths, service, source, elsewhere=bool(url))
    )
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps(books.as_json() | {"seconds": round(seconds, 3)}))
    else:
        from tocsin_server.summary import books_text

        print(books_text(books, seconds))


def _ingest_here(folder: Path, paths: Sequence[Path], service: str | None, source: str | None) -> Books:
    """Into a folder that no server holds."""
    from tocsin_server.load import Books, Options
    from tocsin_server.sources import load_file, load_stream, recover_spool, stop_signals
    from tocsin_server.store import Store

    books = Books()
    with (
        closing(Store.create(folder)) as store,
        progress_bar(total_bytes(paths)) as progress,
        store.writing(),
    ):
        options = Options(service=service, source=source, progress=progress)
        tell(recover_spool(store, options))
        for path in paths:
            if str(path) == "-":
                with stop_signals() as stop:
                    books.add(load_stream(store, 0, real_clock, options, stop))
            else:
                books.add(load_file(store, path, real_clock, options))
        store.expire(real_clock())
    return books


def _ingest_there(
    server: Client, paths: Sequence[Path], service: str | None, source: str | None, *, elsewhere: bool
) -> Books:
    """Through a server: it reads files of this machine itself; streams, and files for a server elsewhere, are
    sent in batches that are taken once, also when they are sent again.
    """
    from tocsin_server.load import Books
    from tocsin_server.sources.identity import batches

    books = Books()
    for path in paths:
        if str(path) != "-" and not elsewhere:
            asked = {"paths": [str(path.resolve())], "service": service, "source": source or str(path)}
            books.add(Books.from_json(server.post("/api/v1/files", asked)))
            continue
        name = source or (f"stdin-{secrets.token_hex(4)}" if str(path) == "-" else str(path))
        about = urlencode({"source": name, "detail": "1"} | ({"service": service} if service else {}))
        with open(0, "rb", closefd=False) if str(path) == "-" else path.open("rb") as stream:
            for key, data in batches(stream, name):
                books.add(
                    Books.from_answer(server.post_lines(f"/api/v1/ingest?{about}", data, key), len(data))
                )
    return books


def doctor(paths: Lines, rules: Rules = None, as_json: Json = False) -> None:
    """Say how well lines are understood, which alerts could work on them, and what is missing."""
    from tocsin_server.doctor import diagnose
    from tocsin_server.history import temporary_store
    from tocsin_server.rules.load import load_rules

    loaded = load_rules([rules_folder(rules)])
    with (
        progress_bar(total_bytes(paths)) as progress,
        temporary_store(paths, real_clock, progress) as (store, books),
    ):
        diagnosis = diagnose(store.connect(), books, loaded, store.manifest.dead_letters(limit=5))
    if as_json:
        print(json.dumps(diagnosis.as_json(), indent=2))
    else:
        from tocsin_server.summary import diagnosis_text

        show(diagnosis_text(diagnosis))


class Format(StrEnum):
    """How ``tocsin query`` prints its answer."""

    table = "table"
    json = "json"
    csv = "csv"


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the table `events`.")],
    format_: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.table,
    as_json: Json = False,
    limit: Annotated[int, typer.Option("--limit", help="Most rows to print.", min=1, max=100_000)] = 5000,
    data: Data = None,
    url: Url = None,
) -> None:
    """Ask one read-only SQL question about the events; `docs/events.md` lists the columns."""
    from tocsin_server.client import at_url, running
    from tocsin_server.export import rows
    from tocsin_server.sql import Limits, guard, lock, run

    guard(sql)
    folder = data_dir(data)
    url = url or (os.environ.get("TOCSIN_URL") if data is None else None)
    server = at_url(url, os.environ.get("TOCSIN_TOKEN")) if url else running(folder)
    if server is not None:
        result = rows.from_message(server.post("/api/v1/query", {"sql": sql, "limit": limit}))
    else:
        limits = Limits(rows=limit)
        with closing(open_store(data)) as store, store.connect() as connection:
            lock(connection, [str(store.events.resolve())], limits.memory_bytes, threads=os.cpu_count() or 1)
            result = run(connection, sql, limits)
    if result.truncated:
        say(f"only the first {limit:,} rows are shown; ask for more with --limit")
    if as_json or format_ is Format.json:
        print(rows.as_json(result))
    elif format_ is Format.csv:
        sys.stdout.write(rows.as_csv(result))
    else:
        show(rows.as_table(result))


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

    faults = check_paths(paths or None, datetime.now(UTC).date())
    if as_json:
        print(json.dumps({"faults": [fault.as_json() for fault in faults]}, indent=2))
    else:
        for fault in faults:
            print(fault)
        print(f"{len(faults)} fault{'' if len(faults) == 1 else 's'}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


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

    loaded = load_rules([rules_folder(rules)])
    bounds = instant("--from", from_), instant("--to", to)
    expect = load_settings().expect
    with history(paths, data) as store:
        connection = store.connect()
        report = replay(connection, loaded, *bounds, expect=expect, include_meta=all_)
        if as_json:
            print(json.dumps(report.as_json(), indent=2))
        else:
            from tocsin_server.summary import report_text
            from tocsin_server.why import silent

            severities = {rule.alert: rule.severity for rule in loaded}
            show(report_text(report, silent(connection, loaded, report, expect), severities))
    for error in report.errors:
        say(f"{error.alert} could not be evaluated: {error.message}")


COMMANDS = (ingest, doctor, query, check, backtest)
