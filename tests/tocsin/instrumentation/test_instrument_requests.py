from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from requests.adapters import HTTPAdapter

import tocsin
from tests.tocsin.snippets import run
from tocsin.instrumentation import httpx as httpx_instrumentation
from tocsin.instrumentation import requests as instrumentation

SPAN = "b7ad6b7169203331"
TRACE = "0af7651916cd43dd8448eb211c80319c"
BOUND = {"request_id": "abc", "trace_id": TRACE, "span_id": SPAN, "trace_flags": "01"}
SENT = {"x-request-id": "abc", "traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrumentation, "_instrumented", set())
    monkeypatch.setattr(HTTPAdapter, "send", HTTPAdapter.send)
    monkeypatch.setattr(httpx_instrumentation, "_instrumented", set())
    for client in (httpx_instrumentation.httpx.Client, httpx_instrumentation.httpx.AsyncClient):
        monkeypatch.setattr(client, "_send_single_request", client._send_single_request)


class Server(HTTPServer):
    """Remembers what arrived, by the name under which it was called; sends /away to its other name."""

    arrived: list[tuple[str, dict[str, str]]]

    @property
    def port(self) -> int:
        return self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        known = {name.lower(): value for name, value in self.headers.items() if name.lower() in SENT}
        self.server.arrived.append((self.headers["host"].partition(":")[0], known))
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("location", f"http://127.0.0.1:{self.server.port}/")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.arrived = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_requests_carry_id_and_trace(server: Server) -> None:
    tocsin.instrument("requests")
    tocsin.instrument("requests")
    with tocsin.bind(**BOUND):
        requests.get(f"http://127.0.0.1:{server.port}/", timeout=5)
    requests.get(f"http://127.0.0.1:{server.port}/", timeout=5)
    assert server.arrived == [("127.0.0.1", SENT), ("127.0.0.1", {})]


def test_what_the_caller_set_stays(server: Server) -> None:
    tocsin.instrument("requests")
    with tocsin.bind(**BOUND), requests.Session() as session:
        session.headers["Traceparent"] = "mine"
        session.get(f"http://127.0.0.1:{server.port}/", headers={"x-request-id": "own"}, timeout=5)
    assert server.arrived == [("127.0.0.1", {"x-request-id": "own", "traceparent": "mine"})]


def test_only_named_hosts_get_them_and_no_redirect_takes_them_along(server: Server) -> None:
    tocsin.instrument("requests", hosts={"localhost"})
    with tocsin.bind(**BOUND):
        requests.get(f"http://localhost:{server.port}/away", timeout=5)
    assert server.arrived == [("localhost", SENT), ("127.0.0.1", {})]


def test_a_request_sent_again_carries_the_id_of_its_new_caller(server: Server) -> None:
    tocsin.instrument("requests")
    with requests.Session() as session:
        prepared = session.prepare_request(requests.Request("GET", f"http://127.0.0.1:{server.port}/"))
        for request_id in ("one", "two"):
            with tocsin.bind(request_id=request_id):
                assert session.send(prepared, timeout=5).request is prepared
    assert [headers["x-request-id"] for _, headers in server.arrived] == ["one", "two"]


def test_an_exception_of_the_call_is_the_same_object_also_through_a_subclass() -> None:
    error = requests.ConnectionError("no route")

    class Failing(HTTPAdapter):
        def send(self, *args: object, **kwargs: object) -> requests.Response:
            raise error

    tocsin.instrument("requests")
    with requests.Session() as session, tocsin.bind(**BOUND):
        session.mount("http://", Failing())
        with pytest.raises(requests.ConnectionError) as raised:
            session.get("http://next.example/")
    assert raised.value is error


def test_the_page_switches_both_on(server: Server) -> None:
    run("instrumentation/httpx.md", 0)
    with tocsin.bind(**BOUND):
        requests.get(f"http://127.0.0.1:{server.port}/", timeout=5)
    assert server.arrived == [("127.0.0.1", {})]
    assert httpx_instrumentation._instrumented
