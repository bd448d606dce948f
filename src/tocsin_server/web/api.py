"""The HTTP API under ``/api/v1``: lines in, questions and commands of the command line and of programs.

What a page shows is also at the page's own address with ``.json``; here is what takes something or does
something. Every error is one JSON object: ``{"error": "what happened, and what to do"}``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from tocsin_server import incident
from tocsin_server.clock import iso
from tocsin_server.collector import StorageError
from tocsin_server.errors import BusyError, TocsinError
from tocsin_server.export.rows import as_message
from tocsin_server.notify.outbox import deliveries
from tocsin_server.rules.readings import SEEN_FOR_US
from tocsin_server.state import silences
from tocsin_server.visible import visible
from tocsin_server.web import health
from tocsin_server.web.bodies import BodyError, inflate, lines, read
from tocsin_server.web.params import NotFound, Params, parse_moment
from tocsin_server.web.services import Services
from tocsin_server.web.views.alerts import alerts as alerts_view
from tocsin_server.why import explain

#: Bytes of bodies that may be in work at once; above it senders are told to come again (row L1).
MAX_BYTES_IN_WORK = 64 << 20
#: Bytes that a request without Content-Length is counted as.
_UNKNOWN_LENGTH = 4 << 20
_RETRY_SOON, _RETRY_LATER = "1", "5"

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]

_api = APIRouter(prefix="/api/v1")


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _who(request: Request) -> str:
    """Who asks, as the gate found out."""
    who: str = request.scope.get("state", {}).get("who", "")
    return who or "api"


With = Annotated[Services, Depends(_services)]
Who = Annotated[str, Depends(_who)]


class Asked(BaseModel):
    """A request body; unknown members are faults."""

    model_config = ConfigDict(extra="forbid")


# --- lines ----------------------------------------------------------------------------------------------


@_api.post("/ingest", summary="Take log lines; the answer comes when they are durable")
async def ingest(
    request: Request,
    services: With,
    source: Annotated[Name, Query(description="Where the lines come from.")] = "http",
    service: Annotated[Name | None, Query(description="Service of lines that name none.")] = None,
    environment: Annotated[Name | None, Query(description="Environment of lines that name none.")] = None,
    detail: Annotated[bool, Query(description="Also the stored events by name.")] = False,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    content_encoding: Annotated[str, Header()] = "",
) -> JSONResponse:
    """NDJSON, a JSON array or one object; gzip, deflate or zstd. Answers ``{"received", "stored",
    "duplicates", "rejected": [{"line", "reason"}]}``; 503 and 429 (with Retry-After) mean: nothing was taken,
    send it again. A batch that comes again with its Idempotency-Key is not taken twice.
    """
    work: _Work = request.app.state.work
    counted = _length(request)
    if not work.take(counted):
        return _error(429, "too many lines at once: send this batch again in a second", retry=_RETRY_SOON)
    try:
        sent = await read(request.stream())
        answer = await run_in_threadpool(
            lambda: services.ingest(
                lines(inflate(sent, content_encoding)),
                source=source,
                service=service,
                environment=environment,
                key=idempotency_key,
                detail=detail,
            )
        )
    finally:
        work.give_back(counted)
    return JSONResponse(answer)


class _Work:
    """Bytes of bodies in work."""

    def __init__(self) -> None:
        self._bytes = 0

    def take(self, count: int) -> bool:
        if self._bytes and self._bytes + count > MAX_BYTES_IN_WORK:
            return False
        self._bytes += count
        return True

    def give_back(self, count: int) -> None:
        self._bytes -= count


def _length(request: Request) -> int:
    stated = request.headers.get("content-length", "")
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 12 else _UNKNOWN_LENGTH


class Files(Asked):
    """Files on the server's own disk."""

    paths: Annotated[list[str], Field(min_length=1, max_length=1000)]
    service: Name | None = None
    source: Name | None = None


@_api.post("/files", summary="Load files of this machine, for `tocsin ingest` beside a running server")
def files(asked: Files, request: Request, services: With) -> Any:
    """Only for whoever can read ``run.json``: the files are read with the server's rights."""
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), services.operator_token.encode()):
        return _error(403, "files are loaded for the operator of this machine only: use `tocsin ingest`")
    return services.load([Path(path) for path in asked.paths], asked.service, asked.source)


# --- questions ------------------------------------------------------------------------------------------


class Question(Asked):
    """One SELECT over ``events``."""

    sql: Annotated[str, Field(max_length=100_000)]
    limit: Annotated[int, Field(ge=1, le=100_000)] = 5000


@_api.post("/query", summary="One read-only SELECT over the table events")
def query(asked: Question, services: With) -> dict[str, Any]:
    """``{"columns", "types", "rows", "truncated"}``."""
    return as_message(services.query(asked.sql, asked.limit))


@_api.post("/flush", summary="Make everything acknowledged part of the events table")
def flush(services: With) -> dict[str, bool]:
    """For a program that reads the data folder itself."""
    with services.connect(services.clock()):
        return {"flushed": True}


@_api.get("/status", summary="Health of every part of this process")
def status(services: With) -> dict[str, Any]:
    """``healthy`` says whether all is well."""
    return services.status()


@_api.get("/sources", summary="Where lines come from, and how well they arrive")
def sources(services: With) -> list[dict[str, Any]]:
    """One object a source; times in ISO 8601."""
    times = ("newest_ts", "last_read_at")
    return [
        row | {name: None if row[name] is None else iso(row[name]) for name in times if name in row}
        for row in services.sources()
    ]


@_api.get("/alerts", summary="The state of every rule")
def alerts(services: With) -> dict[str, Any]:
    """What the page /alerts shows."""
    return alerts_view(services, Params())


@_api.get("/alerts/{alert}/why", summary="Why an alert is, or was, what it is")
def why(alert: Name, services: With, at: Annotated[str, Query(max_length=40)] = "now") -> dict[str, Any]:
    """``at`` is a time (ISO 8601, ``now``, ``now-10m``)."""
    at_us = parse_moment(at, services.clock())
    with services.state.reading() as session, services.connect(at_us - SEEN_FOR_US) as connection:
        catalogue, expect = services.catalogue(), services.settings.expect
        return explain(connection, session, catalogue, alert, at_us, expect)


# --- incidents ------------------------------------------------------------------------------------------


class Remark(Asked):
    """What somebody says about an incident."""

    text: Annotated[str, Field(max_length=10_000)] = ""
    who: Name | None = None


@_api.get("/incidents", summary="Incidents, newest first")
def incidents(services: With, every: Annotated[bool, Query(alias="all")] = False) -> list[dict[str, Any]]:
    """The unresolved ones, or all."""
    with services.state.reading() as session:
        found = incident.listing(session)
    return [one for one in found if every or one["status"] != "resolved"]


@_api.get("/incidents/{number}", summary="One incident with its evidence")
def one_incident(number: int, services: With) -> dict[str, Any]:
    """All that is known of it."""
    with services.state.reading() as session:
        return incident.show(session, number)


@_api.get(
    "/incidents/{number}/export", summary="One incident as a document", response_class=PlainTextResponse
)
def export(number: int, services: With) -> PlainTextResponse:
    """Markdown, safe to share."""
    with services.state.reading() as session:
        text = incident.export_markdown(incident.show(session, number))
    return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")


@_api.post("/incidents/{number}/{action}", summary="Acknowledge, note or resolve")
def act(
    number: int,
    action: Annotated[str, Field(pattern="^(ack|note|resolve)$")],
    asked: Remark,
    services: With,
    who: Who,
) -> dict[str, Any]:
    """The incident afterwards."""
    now, person = services.clock(), asked.who or who
    with services.state.transaction() as session:
        if action == "ack":
            incident.acknowledge(session, number, person, now)
        if action == "resolve":
            incident.resolve(session, number, person, now)
        if action == "note" or asked.text:
            incident.note(session, number, person, asked.text, now)
    services.wake()
    with services.state.reading() as session:
        return incident.show(session, number)


# --- runbooks, drills, channels, silences ---------------------------------------------------------------


class Run(Asked):
    """Inputs by name; ``dry_run`` shows what would be asked, and asks nothing."""

    inputs: dict[Name, str] = {}
    dry_run: bool = False


@_api.get("/runbooks", summary="The runbooks")
def runbooks(services: With) -> list[dict[str, Any]]:
    """Id, title, alerts and steps."""
    return [
        {
            "runbook": one.id,
            "title": one.title,
            "alerts": list(one.alerts),
            "owner": one.owner,
            "last_reviewed": one.last_reviewed,
            "steps": [step.id for step in one.steps],
        }
        for one in services.runbooks().values()
    ]


@_api.post("/runbooks/{runbook}/run", summary="Run a runbook's read-only steps")
def run_runbook(runbook: Name, asked: Run, services: With, who: Who) -> dict[str, Any]:
    """``{"runbook", "steps": [...], "causes": [...]}``."""
    return services.run_runbook(runbook, asked.inputs, asked.dry_run, who)


@_api.post("/drills/{alert}", summary="Walk fire, evidence, notification and resolve for one alert")
def drills(alert: Name, services: With) -> dict[str, Any]:
    """Marked synthetic events; the installation's own events are not touched."""
    return services.drill(alert)


@_api.get("/deliveries", summary="Every notification, its attempts and answers")
def delivery_list(services: With, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
    """Newest first."""
    with services.state.reading() as session:
        return deliveries(session, limit)


@_api.post("/channels/{channel}/test", summary="Send a test notification")
def test_channel(channel: Name, services: With) -> dict[str, Any]:
    """What the receiver answered."""
    return services.test_channel(channel)


class NewSilence(Asked):
    """``matchers`` as ``name=value``, ``!=``, ``=~`` and ``!~``; times ISO 8601 or ``now``."""

    matchers: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=20)]
    starts_at: Annotated[str, Field(max_length=40)] = "now"
    ends_at: Annotated[str, Field(max_length=40)]
    comment: Annotated[str, Field(max_length=2000)]
    author: Name | None = None


@_api.get("/silences", summary="Silences")
def silence_list(services: With, expired: bool = False) -> list[dict[str, Any]]:
    """Active and pending ones, or all."""
    with services.state.reading() as session:
        return silences.listing(session, services.clock(), expired)


@_api.post("/silences", summary="Add a silence")
def add_silence(asked: NewSilence, services: With, who: Who) -> dict[str, Any]:
    """Suppresses notifications only; evaluation, incidents and evidence go on."""
    now = services.clock()
    with services.state.transaction() as session:
        added = silences.add(
            session,
            [silences.parse_matcher(text) for text in asked.matchers],
            parse_moment(asked.starts_at, now),
            parse_moment(asked.ends_at, now),
            asked.author or who,
            asked.comment,
            now,
        )
        return silences.as_json(added, now)


@_api.post("/silences/{number}/expire", summary="End a silence now")
def expire_silence(number: int, services: With, who: Who) -> dict[str, Any]:
    """The silence afterwards."""
    now = services.clock()
    with services.state.transaction() as session:
        return silences.as_json(silences.expire(session, number, who, now), now)


router = APIRouter()
router.include_router(_api)
router.include_router(health.router)


# --- errors ---------------------------------------------------------------------------------------------


def _error(status_code: int, message: str, retry: str | None = None) -> JSONResponse:
    headers = {"Retry-After": retry} if retry else None
    return JSONResponse({"error": visible(message)}, status_code, headers)


def json_errors(app: FastAPI) -> None:
    """Makes every error below ``/api`` one JSON object with a sentence; other paths keep their pages."""
    pages = app.exception_handlers.copy()
    app.state.work = _Work()

    def handled(kind: type[Exception], answer: Callable[[Request, Any], JSONResponse]) -> None:
        before: Any = pages.get(kind)

        async def handle(request: Request, error: Exception) -> Any:
            if request.url.path.startswith("/api/") or before is None:
                return answer(request, error)
            return await before(request, error)

        app.add_exception_handler(kind, handle)

    handled(BodyError, lambda _request, error: _error(error.status, error.message))
    handled(StorageError, lambda _request, error: _error(503, str(error), _RETRY_LATER))
    handled(BusyError, lambda _request, error: _error(429, str(error), _RETRY_SOON))
    handled(NotFound, lambda _request, error: _error(404, str(error)))
    handled(
        TocsinError, lambda _request, error: _error(404 if "there is no" in str(error) else 400, str(error))
    )
    handled(RequestValidationError, lambda _request, error: _error(422, _faults(error)))


def _faults(error: RequestValidationError) -> str:
    """Every fault of a request in one sentence; what was sent is not repeated."""
    told = (f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
    return "; ".join(told)[:2000]
