"""Which server the command line speaks to."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tocsin_server.client import RUN_FILE, running
from tocsin_server.store import Store, writer


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def leave(folder: Path, url: str, pid: int) -> None:
    (folder / RUN_FILE).write_text(json.dumps({"url": url, "token": "t", "pid": pid}))


def test_the_server_that_holds_the_folder_is_asked(tmp_path: Path, url: str) -> None:
    store = Store.create(tmp_path)
    with store.writing():
        leave(tmp_path, url, os.getpid())
        assert writer(tmp_path) == os.getpid()
        assert running(tmp_path) is not None
    store.close()


def test_a_server_that_took_over_the_address_of_a_killed_one_is_not_asked(tmp_path: Path, url: str) -> None:
    """It works on another folder: lines would go there, and answers come from there."""
    store = Store.create(tmp_path)
    with store.writing():
        pass
    leave(tmp_path, url, os.getpid())
    assert writer(tmp_path) is None
    assert running(tmp_path) is None
    with store.writing():  # the next one starts, and has not said where it is
        leave(tmp_path, url, os.getpid() + 1)
        assert running(tmp_path) is None
    store.close()


def test_who_looks_for_the_writer_does_not_keep_one_from_starting(tmp_path: Path) -> None:
    store, done = Store.create(tmp_path), threading.Event()
    with store.writing():
        pass

    def look() -> None:
        while not done.is_set():
            with suppress(ValueError):  # the pid is not written yet
                writer(tmp_path)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50):
        with store.writing():
            pass
    done.set()
    thread.join()
    store.close()
