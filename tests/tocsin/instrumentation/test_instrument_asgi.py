from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from litestar import Controller, Litestar, get
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import tocsin
from tests.tocsin.snippets import code, run
from tocsin.config import Settings
from tocsin.context import snapshot
from tocsin.emitter import Emitter, use
from tocsin.instrumentation.asgi import RequestMiddleware
from tocsin.instrumentation.http import FIELDS_KEY
from tocsin.testing import TEST_KEY, ListSink, capture_events
from tocsin.trace import outgoing_headers

PAGE = "instrumentation/fastapi.md"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HTML = [(b"content-type", b"text/html")]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@pytest.fixture
def captured() -> Iterator[ListSink]:
    with capture_events() as sink:
        yield sink


def requests_in(sink: ListSink) -> list[dict[str, Any]]:
    """Fields of the api.request events, in order."""
    return [event["tags"] for event in sink.events if event.get("metric") == "api.request"]


def ask(app: Any, *requests: tuple[str, str], **options: Any) -> list[httpx.Response]:
    """Sends requests to ``app`` in this process, one after the other."""

    async def talk() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://school.example") as client:
            return [await client.request(method, path, **options) for method, path in requests]

    return asyncio.run(talk())


def answer(
    app: Any,
    received: list[dict[str, Any]] | None = None,
    send: Send | None = None,
    **scope: Any,
) -> list[dict[str, Any]]:
    """Calls ``app`` as a server does and returns what it sent; a server that has nothing more says so."""
    waiting = list(received or [{"type": "http.request", "body": b"", "more_body": False}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def keep(message: dict[str, Any]) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b"", **scope}
    asyncio.run(app(whole, receive, send or keep))
    return sent


def sending(*messages: dict[str, Any]) -> RequestMiddleware:
    """An application that sends these messages."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        for message in messages:
            await send(message)

    return RequestMiddleware(app)


START = {"type": "http.response.start", "status": 200, "headers": HTML}
BODY = {"type": "http.response.body", "body": b"x"}
DISCONNECT = {"type": "http.disconnect"}


# --- ids ---


def test_an_id_is_taken_bound_and_returned(captured: ListSink) -> None:
    app = FastAPI()

    @app.get("/x")
    def x() -> None:
        tocsin.emit("job.queue", queue="default", depth=1)

    app.add_middleware(RequestMiddleware)
    [response] = ask(app, ("GET", "/x"), headers={"x-request-id": "try-1"})
    assert response.headers.get_list("x-request-id") == ["try-1"]
    assert [event.get("tags", event)["request_id"] for event in captured.events] == ["try-1"] * 3


@pytest.mark.parametrize("sent", ["mia@school.example", "a b", "x" * 129])
def test_an_unfit_id_is_replaced(captured: ListSink, sent: str) -> None:
    [start, _] = answer(sending(START, BODY), headers=[(b"x-request-id", sent.encode())])
    [request] = requests_in(captured)
    assert len(request["request_id"]) == 16
    assert start["headers"] == [*HTML, (b"x-request-id", request["request_id"].encode())]


def test_the_application_s_own_header_and_list_stay(captured: ListSink) -> None:
    own = (b"X-Request-ID", b"own")
    [start, _] = answer(sending({**START, "headers": (item for item in (own,))}, BODY))
    assert start["headers"] == [own]
    answer(sending(START, BODY))
    assert START["headers"] is HTML
    assert HTML == [(b"content-type", b"text/html")]


def test_a_trace_is_continued_and_handed_on(captured: ListSink) -> None:
    seen: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Send) -> None:
        seen.update(outgoing_headers())

    traceparent = f"00-{TRACE}-{SPAN}-00"
    answer(RequestMiddleware(app), headers=[(b"traceparent", traceparent.encode())])
    [request] = requests_in(captured)
    assert request["trace_id"] == TRACE
    assert request["span_id"] != SPAN
    assert seen["traceparent"] == f"00-{TRACE}-{request['span_id']}-00"


# --- what is printed ---


def test_both_lines_carry_the_request(captured: ListSink) -> None:
    app = FastAPI()

    def current_user() -> None:
        tocsin.annotate(user_id=812, tenant_id=7)

    @app.get("/api/v1/courses/{course_id}", dependencies=[Depends(current_user)])
    def show(course_id: int) -> int:
        return course_id

    app.add_middleware(RequestMiddleware)
    ask(app, ("GET", "/api/v1/courses/7?q=Mia"))
    line, event = captured.events
    assert line["level"] == "INFO"
    for fields in (line, event["tags"]):
        assert fields["method"] == "GET"
        assert fields["path"] == "/api/v1/courses/7"
        assert fields["route"] == "/api/v1/courses/{course_id}"
        assert fields["status"] == 200
        assert fields["duration_ms"] >= 0
        assert fields["user_id"].startswith("u_")
        assert fields["tenant_id"] == 7
        assert (fields["controller"], fields["action"]) == ("test_instrument_asgi", "show")
        assert not {"streaming", "probe", "error"} & fields.keys()


class Courses(HTTPEndpoint):
    async def get(self, request: Any) -> Response:
        return PlainTextResponse("x")


async def plain(request: Any) -> Response:
    return PlainTextResponse("x")


class Grades:
    def show(self) -> int:
        return 1

    def __call__(self) -> int:
        return 2


def starlette_app() -> Any:
    inner = Mount("/tenants/{tenant}", routes=[Route("/users/{user:int}", plain)])
    return Starlette(routes=[Route("/courses/{id:int}", Courses), Route("/plain", plain), inner])


def fastapi_app() -> Any:
    app, sub, router, outer = FastAPI(), FastAPI(), APIRouter(prefix="/courses"), APIRouter(prefix="/v1")
    router.add_api_route("/{id}", lambda id: id, name="course")
    outer.include_router(router)
    app.include_router(outer, prefix="/api")
    app.add_api_route("/grades", Grades().show)
    app.add_api_route("/all", Grades())
    sub.add_api_route("/in/{z}", Grades().show)
    app.mount("/sub/{t}", sub)
    return app


@pytest.mark.parametrize(
    ("make", "path", "route", "controller", "action"),
    [
        (starlette_app, "/courses/5", "/courses/{id}", "Courses", "get"),
        (starlette_app, "/plain", "/plain", "test_instrument_asgi", "plain"),
        (starlette_app, "/tenants/4/users/5", "/tenants/{tenant}/users/{user}", None, "plain"),
        (starlette_app, "/tenants/4/none", "/tenants/{tenant}/{path}", "Router", None),
        (starlette_app, "/none", None, None, None),
        (fastapi_app, "/api/v1/courses/7", "/api/v1/courses/{id}", None, "<lambda>"),
        (fastapi_app, "/grades", "/grades", "Grades", "show"),
        (fastapi_app, "/all", "/all", "Grades", None),
        (fastapi_app, "/sub/4/in/5", "/sub/{t}/in/{z}", "Grades", "show"),
        (fastapi_app, "/none", None, None, None),
    ],
)
def test_route_controller_and_action(
    captured: ListSink, make: Any, path: str, route: str | None, controller: str | None, action: str | None
) -> None:
    app = make()
    app.add_middleware(RequestMiddleware)
    ask(app, ("GET", path))
    [request] = requests_in(captured)
    assert request.get("route") == route
    assert request.get("controller") == (controller or (action and "test_instrument_asgi"))
    assert request.get("action") == action


class LitestarCourses(Controller):
    path = "/courses"

    @get("/{course_id:int}")
    async def show(self) -> int:
        return 1


@get("/plain", sync_to_thread=True)
def litestar_plain() -> int:
    tocsin.annotate(tenant_id=7)
    return 1


@get("/boom")
async def litestar_boom() -> None:
    raise ValueError("Mia Muster")


def test_litestar_as_its_middleware(captured: ListSink) -> None:
    app = Litestar([LitestarCourses, litestar_plain, litestar_boom], middleware=[RequestMiddleware])
    ask(app, ("GET", "/courses/4"), ("GET", "/plain"), ("GET", "/boom"))
    course, plain, boom = requests_in(captured)
    assert (course["route"], course["controller"], course["action"]) == (
        "/courses/{course_id}",
        "LitestarCourses",
        "show",
    )
    assert (plain["route"], plain["action"], plain["tenant_id"]) == ("/plain", "litestar_plain", 7)
    assert boom["status"] == 500


@pytest.mark.parametrize(
    ("path", "probe"), [("/up", True), ("/api/v1/health", True), ("/alive", True), ("/uploads", None)]
)
def test_probes_are_marked(captured: ListSink, path: str, probe: bool | None) -> None:
    answer(RequestMiddleware(sending(START, BODY).app, probe_paths={"/alive"}), path=path)
    assert requests_in(captured)[0].get("probe") is probe


def test_an_invented_method(captured: ListSink) -> None:
    answer(sending(START, BODY), method="MIA")
    assert requests_in(captured)[0]["method"] == "_OTHER"


# --- how it ended ---


def test_an_exception_is_a_500_and_the_same_object(captured: ListSink) -> None:
    error = ValueError("Mia Muster")

    async def app(scope: Any, receive: Any, send: Send) -> None:
        raise error

    with pytest.raises(ValueError) as raised:
        answer(RequestMiddleware(app))
    assert raised.value is error
    [request] = requests_in(captured)
    assert (request["status"], request["error"]) == (500, "ValueError")


def test_an_exception_after_the_start_is_a_500(captured: ListSink) -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(START)
        await send({**BODY, "more_body": True})
        raise ValueError

    with pytest.raises(ValueError):
        answer(RequestMiddleware(app))
    [request] = requests_in(captured)
    assert (request["status"], request["error"]) == (500, "ValueError")


def test_no_answer_is_a_500_without_error(captured: ListSink) -> None:
    answer(sending(START))
    [request] = requests_in(captured)
    assert request["status"] == 500
    assert "error" not in request


@pytest.mark.parametrize("wrap", [False, True])
def test_fastapi_exceptions(captured: ListSink, wrap: bool) -> None:
    app: Any = FastAPI()

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418)

    @app.get("/boom")
    def boom() -> None:
        raise KeyError("Mia Muster")

    if wrap:
        app = RequestMiddleware(app)
    else:
        app.add_middleware(RequestMiddleware)
    _, failed = ask(app, ("GET", "/teapot"), ("GET", "/boom"))
    first, second = requests_in(captured)
    assert (first["status"], "error" in first) == (418, False)
    assert (second["status"], second["error"]) == (500, "KeyError")
    assert failed.status_code == 500
    assert ("x-request-id" in failed.headers) is wrap


def test_a_background_task_neither_lengthens_nor_fails_the_request() -> None:
    now = [0]

    def work() -> None:
        now[0] += 60_000_000_000
        raise RuntimeError("after the answer")

    async def endpoint(request: Any) -> Response:
        now[0] += 5_000_000
        return PlainTextResponse("x", background=BackgroundTask(work))

    app = Starlette(routes=[Route("/x", endpoint)])
    app.add_middleware(RequestMiddleware)
    with capture_events(monotonic=lambda: now[0]) as captured:
        ask(app, ("GET", "/x"))
    [request] = requests_in(captured)
    assert (request["status"], request["duration_ms"]) == (200, 5)
    assert "error" not in request


def test_a_stream_is_measured_to_its_end_and_marked() -> None:
    now = [0]

    async def pieces() -> Any:
        for _ in range(3):
            now[0] += 10_000_000
            yield b"piece"

    async def endpoint(request: Any) -> Response:
        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/x", endpoint)])
    app.add_middleware(RequestMiddleware)
    with capture_events(monotonic=lambda: now[0]) as captured:
        ask(app, ("GET", "/x"))
    [request] = requests_in(captured)
    assert (request["status"], request["duration_ms"], request["streaming"]) == (200, 30, True)


@pytest.mark.parametrize(
    ("messages", "streaming"),
    [
        ([START, {**BODY, "more_body": True}, {**BODY, "body": b""}], None),
        ([START, {**BODY, "more_body": True}, BODY], True),
        ([{**START, "headers": [(b"content-type", b"text/event-stream")]}, BODY], True),
        ([START, {"type": "http.response.pathsend", "path": "/a"}], None),
        ([START, {"type": "http.response.zerocopysend", "file": 3, "more_body": True}, BODY], True),
        ([{**START, "status": 103}, {**START, "headers": []}, {"type": "http.response.body"}], None),
        ([{"type": "http.response.early_hint", "links": []}, START, BODY], None),
        ([{"type": "http.response.start", "status": 200}, BODY], None),
    ],
)
def test_what_counts_as_a_stream(
    captured: ListSink, messages: list[dict[str, Any]], streaming: bool | None
) -> None:
    sent = answer(sending(*messages))
    assert [message["type"] for message in sent] == [message["type"] for message in messages]
    [request] = requests_in(captured)
    assert request["status"] == 200
    assert request.get("streaming") is streaming


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(captured: ListSink, status: int) -> None:
    app = Starlette(routes=[Route("/x", lambda request: Response(status_code=status))])
    app.add_middleware(RequestMiddleware)
    ask(app, ("GET", "/x"), ("HEAD", "/x"))
    assert [request["status"] for request in requests_in(captured)] == [status, status]


# --- clients that leave ---


def test_a_disconnect_that_the_application_receives_is_499(captured: ListSink) -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await receive()

    answer(RequestMiddleware(app), received=[DISCONNECT])
    [request] = requests_in(captured)
    assert (request["status"], request["error"]) == (499, "ClientDisconnect")


def test_a_disconnect_after_the_answer_is_none(captured: ListSink) -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send({**START, "status": 503})
        await send(BODY)
        await receive()

    answer(RequestMiddleware(app), received=[DISCONNECT])
    assert requests_in(captured)[0]["status"] == 503


def test_a_server_that_cannot_send_is_499(captured: ListSink) -> None:
    async def gone(message: dict[str, Any]) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        answer(sending(START, BODY), send=gone)
    [request] = requests_in(captured)
    assert (request["status"], request["error"]) == (499, "ConnectionResetError")


def test_a_cancelled_request_is_499_and_stays_cancelled(captured: ListSink) -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        answer(RequestMiddleware(app))
    [request] = requests_in(captured)
    assert (request["status"], request["error"]) == (499, "CancelledError")


# --- what is not counted ---


def test_a_websocket_has_an_id_and_is_not_counted(captured: ListSink) -> None:
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        tocsin.emit("job.queue", queue="default", depth=1)
        await websocket.send_text("x")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", ws)])
    app.add_middleware(RequestMiddleware)
    with TestClient(app).websocket_connect("/ws", headers={"x-request-id": "try-1"}) as websocket:
        assert websocket.receive_text() == "x"
    [event] = captured.events
    assert event["tags"]["request_id"] == "try-1"


def test_the_last_message_of_the_lifespan_finds_all_lines_written() -> None:
    lines: list[bytes] = []
    seen: list[tuple[str, int]] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        tocsin.emit("job.queue", queue="default", depth=1)
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: dict[str, Any]) -> None:
        seen.append((message["type"], len(lines)))

    before = use(Emitter(Settings(service="test", pseudonym_key=TEST_KEY), lines.extend))
    try:
        answer(RequestMiddleware(app), send=send, type="lifespan")
    finally:
        emitter = use(before)
        assert emitter is not None
        emitter.close()
    assert seen == [("lifespan.shutdown.complete", 1)]


def test_a_request_through_two_middlewares_counts_once(captured: ListSink) -> None:
    app = fastapi_app()
    app.add_middleware(RequestMiddleware)
    app.routes[-1].app.add_middleware(RequestMiddleware)
    ask(RequestMiddleware(app), ("GET", "/sub/4/in/5"))
    assert [request["route"] for request in requests_in(captured)] == ["/sub/{t}/in/{z}"]


def test_an_inner_middleware_of_ours_adds_to_the_request(captured: ListSink) -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        scope[FIELDS_KEY]["controller"] = "CoursesView"
        await send(START)
        await send(BODY)

    answer(RequestMiddleware(app))
    assert requests_in(captured)[0]["controller"] == "CoursesView"


# --- no harm ---


@pytest.mark.usefixtures("internal_failures")
@pytest.mark.parametrize(
    "broken",
    [{"headers": None}, {"headers": [(b"traceparent", None)]}, {"route_handler": 1}, {"app_root_path": "/"}],
)
def test_what_a_server_or_framework_gets_wrong_is_not_made_worse(
    captured: ListSink, broken: dict[str, Any]
) -> None:
    sent = answer(sending(START, BODY), **broken)
    assert [message["type"] for message in sent] == [START["type"], BODY["type"]]
    assert requests_in(captured)[0]["status"] == 200


@pytest.mark.usefixtures("internal_failures")
def test_a_message_that_we_cannot_read_goes_through_as_it_is(captured: ListSink) -> None:
    odd = {"type": "http.response.start", "status": 200, "headers": [b"odd"]}
    assert answer(sending(odd, BODY))[0] is odd


def test_S14_nothing_of_a_person_is_printed(captured: ListSink) -> None:
    app = FastAPI()

    @app.post("/students/{name}")
    async def show(name: str, cookie: str = Header()) -> None:
        raise ValueError("Mia Muster, mia.muster@school.example, 2029-0042-7731")

    app.add_middleware(RequestMiddleware)
    headers = {
        "authorization": "Bearer sk-synthetic-4242424242424242",
        "cookie": "session=synthetic-session-1",
        "x-request-id": "mia.muster@school.example",
        "x-student": "Mia Muster",
        "user-agent": "Mia Muster",
    }
    path = "/students/mia.muster@school.example?name=Mia+Muster&token=synthetic-token-1"
    [response] = ask(app, ("POST", path), headers=headers, json={"name": "Mia Muster"})
    assert response.status_code == 500
    [request] = requests_in(captured)
    assert request["error"] == "ValueError"
    printed = b"".join(captured.lines).lower()
    for secret in (b"mia", b"muster", b"school.example", b"synthetic", b"4242", b"7731", b"bearer"):
        assert secret not in printed


# --- S10: contexts ---

#: Repeats the trials.
SCALE = int(os.environ.get("BAR_SCALE", "1"))


def mixed_app() -> Any:
    """Sync and async endpoints and dependencies; each emits the id that it was called with as ``mine``."""
    app = FastAPI()

    def sync_user(x_mine: str = Header()) -> str:
        tocsin.annotate(tenant_id=x_mine)
        tocsin.emit("check", mine=x_mine)
        return x_mine

    async def async_user(x_mine: str = Header()) -> str:
        tocsin.annotate(tenant_id=x_mine)
        await asyncio.sleep(0)
        tocsin.emit("check", mine=x_mine)
        return x_mine

    @app.get("/sync")
    def sync(mine: str = Depends(sync_user)) -> str:
        tocsin.emit("check", mine=mine)
        return mine

    @app.get("/async")
    async def asynchronous(mine: str = Depends(async_user), again: str = Depends(sync_user)) -> str:
        inner = asyncio.create_task(asyncio.to_thread(tocsin.emit, "check", mine=mine))
        await inner
        with tocsin.bind(step=1):
            await asyncio.sleep(0)
            tocsin.emit("check", mine=mine)
        return mine

    @app.get("/boom")
    def boom(mine: str = Depends(sync_user)) -> str:
        raise ValueError(mine)

    app.add_middleware(RequestMiddleware)
    return app


async def storm(client: httpx.AsyncClient, count: int) -> None:
    """``count`` concurrent requests, each with its own id."""

    async def one(number: int) -> None:
        mine = f"r-{number}"
        path = ("/sync", "/async", "/boom")[number % 3]
        headers = {"x-request-id": mine, "x-mine": mine}
        if path == "/boom":
            headers["connection"] = "close"  # uvicorn closes it anyway, perhaps under the next request
        response = await client.get(path, headers=headers)
        assert response.status_code == (500 if path == "/boom" else 200)

    await asyncio.gather(*map(one, range(count)))


def assert_no_foreign_ids(captured: ListSink, count: int) -> None:
    requests = requests_in(captured)
    assert sorted(request["request_id"] for request in requests) == sorted(f"r-{n}" for n in range(count))
    assert [request for request in requests if request["tenant_id"] != request["request_id"]] == []
    checks = [event["tags"] for event in captured.events if event.get("metric") == "check"]
    assert len(checks) >= 2 * count * 2 // 3
    assert [check for check in checks if check["mine"] != check["request_id"]] == []


@pytest.mark.parametrize("trial", range(SCALE))
def test_S10_concurrent_requests_in_one_process_keep_their_ids(captured: ListSink, trial: int) -> None:
    async def talk() -> None:
        transport = httpx.ASGITransport(mixed_app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://school.example") as client:
            await storm(client, 1000)

    asyncio.run(talk())
    assert_no_foreign_ids(captured, 1000)
    assert snapshot() == {}


@contextmanager
def served(app: Any) -> Iterator[str]:
    """A real uvicorn in a thread; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=30))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("trial", range(SCALE))
def test_S10_keep_alive_connections_of_a_real_server_keep_the_ids_apart(
    captured: ListSink, trial: int
) -> None:
    async def talk(address: str) -> None:
        limits = httpx.Limits(max_connections=8, max_keepalive_connections=8)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
            await storm(client, 90)

    with served(mixed_app()) as address:
        asyncio.run(talk(address))
    assert_no_foreign_ids(captured, 90)


@pytest.mark.parametrize("inner", [False, True])
def test_a_reader_who_leaves_a_stream_of_a_real_server_is_499(captured: ListSink, inner: bool) -> None:
    async def pieces() -> Any:
        while True:
            yield b"piece"
            await asyncio.sleep(0.01)

    async def endpoint(request: Any) -> Response:
        return StreamingResponse(pieces())

    async def untouched(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = Starlette(routes=[Route("/x", endpoint)])
    if inner:
        app.add_middleware(BaseHTTPMiddleware, dispatch=untouched)
    app.add_middleware(RequestMiddleware)
    with served(app) as address, httpx.stream("GET", f"{address}/x") as response:
        next(response.iter_raw())
        response.close()
    [request] = requests_in(captured)
    assert (request["status"], request["error"]) == (499, "ClientDisconnect")


# --- the page ---


def test_the_page_s_fastapi(captured: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tocsin, "configure", lambda **settings: None)
    app = run(PAGE, 0, __file__="main.py")["app"]
    path = ("GET", "/api/v1/courses/7")
    [welcome] = ask(app, path, headers={"authorization": "Bearer synthetic-token", "x-request-id": "try-1"})
    [refused] = ask(app, path)
    assert (welcome.status_code, refused.status_code) == (200, 401)
    assert welcome.headers["x-request-id"] == "try-1"
    first, second = requests_in(captured)
    assert first["tenant_id"] == 7
    assert first["user_id"].startswith("u_")
    assert (second["status"], second["route"]) == (401, "/api/v1/courses/{course_id}")
    assert not {"user_id", "tenant_id"} & second.keys()
    [shown] = map(json.loads, code(PAGE, "json"))
    assert shown["tags"].keys() == first.keys()
    assert list(shown["tags"]) == list(first)


def test_the_page_s_starlette(captured: ListSink) -> None:
    [response] = ask(run(PAGE, 1)["app"], ("GET", "/api/v1/courses/7"))
    assert response.json() == {"id": 7}
    assert requests_in(captured)[0]["route"] == "/api/v1/courses/{course_id}"


def test_the_page_s_litestar(captured: ListSink, monkeypatch: pytest.MonkeyPatch) -> None:
    # Litestar looks its handlers' module up.
    monkeypatch.setitem(sys.modules, "main", ModuleType("main"))
    app = run(PAGE, 2, __name__="main")["app"]
    app.app.register(litestar_boom)
    ask(app, ("GET", "/api/v1/courses/7"), ("GET", "/none"), ("GET", "/boom"))
    course, unknown, boom = requests_in(captured)
    assert (course["route"], course["action"]) == ("/api/v1/courses/{course_id}", "show_course")
    assert (unknown["status"], "route" in unknown, "error" in unknown) == (404, False, False)
    assert (boom["status"], boom["error"]) == (500, "ValueError")
