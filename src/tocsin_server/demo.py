"""The demo: lines recorded from a real Rails server and its Sidekiq worker, and what Tocsin makes of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import RenderableType
from rich.rule import Rule as Line
from rich.text import Text

from tocsin_server.backtest import backtest
from tocsin_server.clock import Clock
from tocsin_server.doctor import diagnose
from tocsin_server.load import Books, Options
from tocsin_server.resources import alert_rules, demo_lines
from tocsin_server.rules.load import load_rules
from tocsin_server.sources import load_file
from tocsin_server.store import Store
from tocsin_server.summary import books_text, diagnosis_text, report_text
from tocsin_server.why import silent

_NEXT = """Ask about these lines:  tocsin query "SELECT name, count(*) FROM events GROUP BY 1" --data {folder}
Try your own logs:      tocsin doctor FILE…   and   tocsin backtest FILE…"""


def run(folder: Path, clock: Clock, show: Callable[[RenderableType], None]) -> None:
    """Ingests the recorded lines into ``folder``, then shows the doctor's summary and the backtest.

    What an earlier demo left in ``folder`` is removed first. Raises TocsinError when it cannot be written.
    """
    if (folder / "manifest.db").exists():
        shutil.rmtree(folder)
    store, books = Store.create(folder), Books()
    started = time.perf_counter()
    with store.writing():
        for path in demo_lines():
            books.add(load_file(store, path, clock, Options(source=path.name)))
    show(Line("tocsin ingest"))
    show(Text(books_text(books, time.perf_counter() - started)))
    rules = load_rules([alert_rules()])
    connection = store.connect()
    show(Line("tocsin doctor"))
    show(diagnosis_text(diagnose(connection, books, rules, store.manifest.dead_letters(limit=5))))
    show(Line("tocsin backtest"))
    report = backtest(connection, rules)
    severities = {rule.alert: rule.severity for rule in rules}
    show(report_text(report, silent(connection, rules, report), severities))
    show(Line("what next"))
    show(Text(_NEXT.format(folder=folder)))
