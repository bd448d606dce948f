"""Clients that are too slow are cut; those that are not, are served (row I7)."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request

from tocsin_server import serving


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(serving, "_LOOK_S", 0.1)
    monkeypatch.setattr(serving, "_MOST_CONNECTIONS", 20)
    app = FastAPI()

    @app.post("/")
    async def take(request: Request) -> int:
        return len(await request.body())

    @app.get("/slow")
    def slow() -> str:
        time.sleep(0.6)  # the server's own time is not the client's
        return "done"

    server: uvicorn.Server = serving._web_server(app)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join()
    listening.close()


def is_cut(client: socket.socket) -> bool:
    client.settimeout(20)
    try:
        return client.recv(100) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "begun", [b"", b"POST / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"]
)
def test_I7_who_stops_in_the_middle_is_cut(address: tuple[str, int], begun: bytes) -> None:
    with socket.create_connection(address) as client:
        client.sendall(begun)
        assert is_cut(client)


def test_I7_silent_clients_do_not_shut_others_out(address: tuple[str, int]) -> None:
    silent = [socket.create_connection(address) for _ in range(40)]
    assert all(is_cut(client) for client in silent)
    for client in silent:
        client.close()
    with socket.create_connection(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_slow_answer_and_a_pause_between_requests_are_nobodys_fault(address: tuple[str, int]) -> None:
    client = http.client.HTTPConnection(*address, timeout=20)
    client.connect()
    connected = client.sock
    for _ in range(2):
        client.request("GET", "/slow")
        assert client.getresponse().read() == b'"done"'
        time.sleep(0.4)
    assert client.sock is connected
    client.close()
