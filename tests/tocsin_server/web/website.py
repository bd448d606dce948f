"""A real site on a loopback port: events of a school morning with an outage, the real steps of the flow, the
shipped rules and runbooks. What the tests of the pages and of the browser look at.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import histories
import uvicorn

from tocsin_server import incident
from tocsin_server.clock import frozen_clock
from tocsin_server.config import Settings
from tocsin_server.errors import Fault
from tocsin_server.impact import affected
from tocsin_server.investigate import Investigator
from tocsin_server.live import Evaluator
from tocsin_server.resources import alert_rules, runbooks
from tocsin_server.rules.load import load_catalogue
from tocsin_server.runbook.load import load_runbooks
from tocsin_server.runbook.run import Tools
from tocsin_server.sql import Result
from tocsin_server.state import State
from tocsin_server.web import create_app
from tocsin_server.web.services import Services

#: 2026-11-23T08:10:00Z, a Monday morning.
NOW = 1_795_421_400
NOW_US = NOW * 1_000_000
OPERATOR = "operator-token-of-this-machine"
Event = dict[str, Any]


def morning(start: int = NOW - 3600, end: int = NOW, broken_from: int = NOW - 480) -> Iterator[Event]:
    """An hour of requests, jobs, logins and health checks; a deploy breaks one controller."""
    for i, t in enumerate(range(start, end, 2)):
        bad = t >= broken_from and i % 4 == 0
        tenant = str(1 + i % 41) if not bad else str(1 + i % 3)
        yield _event(
            t,
            "api.request",
            http_status=500 if bad else 200,
            status="error" if bad else "success",
            duration_ms=40.0 + 7 * (i % 23),
            tenant_id=tenant,
            user_id=f"u_{i % 300:016x}",
            request_id=f"r{i:08d}",
            method="GET",
            path="/api/v1/courses/:id",
            controller="courses",
            action="show",
            **({"error": "NoMethodError"} if bad else {}),
        )
        level, text = (
            ("error", "NoMethodError: undefined method `grade'") if bad else ("info", "Completed 200 OK")
        )
        yield _event(t + 0.01, "log", level=level, message=text, request_id=f"r{i:08d}")
    for i, t in enumerate(range(start, end, 20)):
        yield _event(
            t,
            "job.completed",
            status="success",
            job_class="RosterSyncJob",
            duration_ms=120.0,
            queue="default",
        )
        yield _event(t, "auth.login", status="failure" if i % 19 == 0 else "success", provider="google")
        yield _event(t, "job.queue", queue="default", depth=3 + i % 5, oldest_age_s=1.5)
    yield _event(broken_from - 60, "deploy", version="2026.11.2", git_sha="8a38277")


def _event(t: float, name: str, **fields: Any) -> Event:
    return {
        "t": t,
        "name": name,
        "service": "k12-core",
        "environment": "production",
        "source": "web.log",
        **fields,
    }


@dataclass
class Site:
    """A server, its state and its address."""

    services: Services
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> tuple[int, Mapping[str, str], str]:
        """One GET; redirects are not followed."""
        return self.ask("GET", path, headers=headers)

    def json(self, path: str) -> Any:
        """The data of a twin."""
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def page(self, path: str) -> str:
        """The HTML of a page."""
        status, _, body = self.get(path, Accept="text/html")
        assert status == 200, body
        return body

    def post(self, path: str, body: str = "", **headers: str) -> tuple[int, Mapping[str, str], str]:
        """A form sent from this site, unless ``headers`` say otherwise."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        return self.ask("POST", path, body.encode(), {**sent, **headers})

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], str]:
        """Any request; a header that is empty is not sent."""
        merged = {
            **self.headers,
            **{name.replace("_", "-"): value for name, value in (headers or {}).items()},
        }
        sent = {name: value for name, value in merged.items() if value}
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        try:
            with _OPENER.open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def running(
    folder: Path,
    events: Iterable[Event] = (),
    *,
    token: str | None = None,
    settings: Mapping[str, Any] | None = None,
    evaluate: bool = True,
    more_rules: str = "",
    more_runbooks: Mapping[str, str] | None = None,
    faults: Iterable[Fault] = (),
) -> Iterator[Site]:
    """A site of these events at :data:`NOW`, its rules evaluated, its incidents investigated."""
    database = histories.connect(events)
    state = State.in_folder(folder)
    services = _services(
        folder, database, state, token, settings or {}, more_rules, more_runbooks or {}, tuple(faults)
    )
    if evaluate:
        flow(services)
    server = uvicorn.Server(
        uvicorn.Config(create_app(services), port=0, log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _await(lambda: server.started)
        yield Site(services, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()
        state.close()
        database.close()


def flow(services: Services) -> None:
    """The steps of the live process, once, in their order."""
    rules = {rule.alert: rule for rule in services.catalogue().rules}
    now = services.clock()
    Evaluator(services.state, services.catalogue, services.connect, start_at=now - 3_500_000_000).step(
        now + 3_000_000
    )
    incident.step(services.state, services.catalogue(), services.settings.notify.routes, now)

    def impact(alert: str, labels: Mapping[str, str], from_us: int, to_us: int) -> Any:
        with services.connect(from_us) as connection:
            return affected(connection, rules[alert], labels, from_us, to_us)

    tools = Tools(connect=lambda as_of: services.connect(None))
    Investigator(services.state, services.runbooks, tools, services.clock, impact).step(now)


def _services(
    folder: Path,
    database: duckdb.DuckDBPyConnection,
    state: State,
    token: str | None,
    settings: Mapping[str, Any],
    more_rules: str,
    more_runbooks: Mapping[str, str],
    faults: tuple[Fault, ...],
) -> Services:
    @contextlib.contextmanager
    def connect(_since: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
        with database.cursor() as cursor:
            yield cursor

    rule_files = [alert_rules()]
    if more_rules:
        (folder / "more.yaml").write_text(more_rules)
        rule_files.append(folder / "more.yaml")
    catalogue = load_catalogue(rule_files)
    books = dict(load_runbooks(runbooks())[0])
    if more_runbooks:
        (folder / "runbooks").mkdir()
        for name, text in more_runbooks.items():
            (folder / "runbooks" / name).write_text(text)
        books |= load_runbooks(folder / "runbooks")[0]
    return Services(
        settings=Settings.model_validate({"data": str(folder), **settings}),
        clock=frozen_clock(NOW_US),
        state=state,
        connect=connect,
        query=lambda _sql, _limit: Result([], [], [], False),
        catalogue=lambda: catalogue,
        runbooks=lambda: books,
        faults=lambda: faults,
        sources=lambda: SOURCES,
        status=lambda: {"healthy": True, "problems": [], "last_instant_at": NOW_US},
        wake=lambda: None,
        ingest=_ingest,
        drill=lambda _alert: {},
        token=token,
        operator_token=OPERATOR,
        test_channel=lambda channel: {"channel": channel, "status": "delivered"},
    )


SOURCES: list[dict[str, Any]] = [
    {
        "source": "web.log",
        "kind": "file",
        "state": "reading",
        "error": "",
        "lag_bytes": 0,
        "newest_ts": NOW_US - 1_000_000,
        "books": {
            "lines": 3600,
            "events": {"api.request": 1800},
            "logs": 1800,
            "rejected": 0,
            "duplicates": 0,
        },
    }
]


def _ingest(data: bytes, **_: Any) -> dict[str, Any]:
    return {"received": data.count(b"\n"), "stored": data.count(b"\n"), "duplicates": 0, "rejected": []}


def _await(condition: Any) -> None:
    deadline = threading.Event()
    for _ in range(500):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError("the server did not start within 5 s")
