"""What the terminal says during the demo: what was loaded, where to look, and what has been found."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text
from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.demo.folder import Prepared
from tocsin_server.demo.outages import Outage
from tocsin_server.doctor import diagnose
from tocsin_server.rules import Rule
from tocsin_server.state import State
from tocsin_server.state.tables import Incident, IncidentAlert, RunbookRun
from tocsin_server.store import Store
from tocsin_server.summary import books_text
from tocsin_server.visible import visible

#: How often the state is looked at, in seconds.
_EVERY_S = 0.5


def loaded_text(prepared: Prepared, rules: list[Rule]) -> RenderableType:
    """The books of the load, and which alerts could fire on these lines."""
    store = Store.open(prepared.data)
    try:
        diagnosis = diagnose(store.connect(), prepared.books, rules, [])
    finally:
        store.close()
    ready = sum(one.ready for one in diagnosis.alerts.values())
    return Group(
        Text(books_text(prepared.books, prepared.seconds)),
        Text(
            f"{ready} of {len(diagnosis.alerts)} alerts could fire on these lines (`tocsin doctor` says why)"
        ),
    )


def hints(outage: Outage, prepared: Prepared, url: str) -> RenderableType:
    """Where to look, and what to try."""
    data = f"--data {prepared.data}"
    question = "SELECT name, status, count(*) FROM events GROUP BY ALL ORDER BY 3 DESC"
    return Text(
        f"Twelve minutes ago: {outage.story}.\n"
        f"\nLook at it:  {url}\n"
        f"Ask why:     {command()} why {outage.alert} {data}\n"
        f'Ask more:    {command()} query "{question}" {data}\n'
        f"The log:     {prepared.log}\n"
        "\nCtrl-C ends the demo.\n"
    )


def command() -> str:
    """How this command is called here: by its name, or by its path when that is not on the PATH."""
    called = Path(sys.argv[0])
    return "tocsin" if shutil.which("tocsin") or called.name != "tocsin" else str(called)


@contextmanager
def watching(data: Path, url: str, show: Callable[[RenderableType], None]) -> Iterator[None]:
    """Says once what is new in the state of a data folder, as long as the block lasts: that an alert fired,
    its likely cause, its end.
    """
    state, stopping = State.in_folder(data), threading.Event()
    thread = threading.Thread(target=_watch, args=(state, url, show, stopping), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        state.close()


def _watch(state: State, url: str, show: Callable[[RenderableType], None], stopping: threading.Event) -> None:
    said: set[str] = set()
    while not stopping.wait(_EVERY_S):
        with state.reading() as session:
            news = [sentence for sentence in _news(session, url) if sentence not in said]
        said.update(news)
        for sentence in news:
            show(Text(sentence))


def _news(session: Session, url: str) -> Iterator[str]:
    for alert in session.scalars(select(IncidentAlert).order_by(IncidentAlert.id)):
        where = f"{url}/incidents/{alert.incident_id}"
        yield f"{iso(alert.fired_at)}  {visible(alert.alert)} fired: {where}"
    done = select(RunbookRun).where(RunbookRun.status == "done", RunbookRun.incident_id.is_not(None))
    for run in session.scalars(done.order_by(RunbookRun.id)):
        for cause in run.causes[:1]:
            yield (
                f"{iso(run.finished_at or run.created_at)}  {cause['strength']} cause, by the runbook "
                f"{visible(run.runbook)}: {visible(cause['title'])}"
            )
    for incident in session.scalars(select(Incident).where(Incident.resolved_at.is_not(None))):
        yield f"{iso(incident.resolved_at or 0)}  incident {incident.id} is over"
