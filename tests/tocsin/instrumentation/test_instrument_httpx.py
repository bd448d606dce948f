from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

import tocsin
from tests.tocsin.snippets import run
from tocsin.instrumentation import httpx as instrumentation

PAGE = "instrumentation/httpx.md"
SPAN = "b7ad6b7169203331"
TRACE = "0af7651916cd43dd8448eb211c80319c"
BOUND = {"request_id": "abc", "trace_id": TRACE, "span_id": SPAN, "trace_flags": "01"}
SENT = {"x-request-id": "abc", "traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(instrumentation, "_instrumented", set())
    clients = (httpx.Client, httpx.AsyncClient)
    before = [vars(client)["_send_single_request"] for client in clients]
    yield
    for client, method in zip(clients, before, strict=True):
        client._send_single_request = method  # type: ignore[method-assign, assignment]


class Server(httpx.MockTransport):
    """Remembers what arrived; sends /away to another host."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.arrived: list[tuple[str, dict[str, str]]] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        known = {name: value for name, value in request.headers.items() if name in SENT}
        self.arrived.append((request.url.host, known))
        if request.url.path == "/away":
            return httpx.Response(302, headers={"location": "http://third.example/"})
        return httpx.Response(200, headers={"location": "http://third.example/"})


def test_requests_carry_id_and_trace() -> None:
    server = Server()
    with httpx.Client(transport=server) as client:
        tocsin.instrument("httpx")
        tocsin.instrument("httpx")
        with tocsin.bind(**BOUND):
            client.get("http://next.example/")
        client.get("http://next.example/")
    assert server.arrived == [("next.example", SENT), ("next.example", {})]


def test_async_requests_carry_id_and_trace() -> None:
    server = Server()
    tocsin.instrument("httpx")

    async def call() -> None:
        async with httpx.AsyncClient(transport=server) as client:
            with tocsin.bind(**BOUND):
                await client.get("http://next.example/")

    asyncio.run(call())
    assert server.arrived == [("next.example", SENT)]


def test_what_the_caller_set_stays_also_on_the_client() -> None:
    server = Server()
    tocsin.instrument("httpx")
    with httpx.Client(transport=server, headers={"traceparent": "mine"}) as client, tocsin.bind(**BOUND):
        client.get("http://next.example/", headers={"x-request-ID": "own"})
    assert server.arrived == [("next.example", {"x-request-id": "own", "traceparent": "mine"})]


def test_only_named_hosts_get_them_and_no_redirect_takes_them_along() -> None:
    server = Server()
    tocsin.instrument("httpx", hosts={"next.example"})
    with httpx.Client(transport=server, follow_redirects=True) as client, tocsin.bind(**BOUND):
        client.get("http://next.example/away")
    assert server.arrived == [("next.example", SENT), ("third.example", {})]


def test_a_request_sent_again_carries_the_id_of_its_new_caller() -> None:
    server = Server()
    tocsin.instrument("httpx")
    with httpx.Client(transport=server) as client:
        request = client.build_request("GET", "http://next.example/")
        for request_id in ("one", "two"):
            with tocsin.bind(request_id=request_id):
                assert client.send(request).request is request
    assert [headers["x-request-id"] for _, headers in server.arrived] == ["one", "two"]


def test_an_exception_of_the_call_is_the_same_object_and_a_subclass_works() -> None:
    error = httpx.ConnectError("no route")

    class Own(httpx.Client):
        def send(self, request: httpx.Request, **options: object) -> httpx.Response:
            return super().send(request, **options)  # type: ignore[arg-type]

    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    tocsin.instrument("httpx")
    client = Own(transport=httpx.MockTransport(fail))
    with client, tocsin.bind(**BOUND), pytest.raises(httpx.ConnectError) as raised:
        client.get("http://next.example/")
    assert raised.value is error


def test_hooks_for_one_client() -> None:
    server = Server()
    hooks = instrumentation.event_hooks(hosts={"next.example"})
    client = httpx.Client(transport=server, event_hooks=hooks, follow_redirects=True)
    with client, tocsin.bind(**BOUND):
        client.get("http://next.example/away")
    assert server.arrived == [("next.example", SENT), ("third.example", {})]


def test_the_page_s_hooks() -> None:
    names = run(PAGE, 1)
    server = Server()

    async def call() -> None:
        with tocsin.bind(**BOUND):
            async with names["async_client"] as client:
                client._transport = server
                await client.get("/")

    asyncio.run(call())
    with names["client"] as client, tocsin.bind(**BOUND):
        client._transport = server
        client.get("/")
    assert server.arrived == [("ai-gateway.internal", SENT)] * 2


def test_the_page_s_headers() -> None:
    with tocsin.bind(**BOUND):
        sent = run(PAGE, 2)["headers"]
    assert {name.lower(): value for name, value in sent.items()} == SENT
