"""``HttpSink``: against a server that misbehaves in every way, and against a real Tocsin."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import tocsin
from tests.tocsin import snippets
from tests.tocsin_server.upping import Running, running
from tocsin.errors import ConfigurationError
from tocsin.sinks import http
from tocsin.sinks.http import BATCH_BYTES, TOTAL_S, CollectorError, HttpSink, RefusedError

TAKEN = b'{"received":1,"stored":1,"duplicates":0,"rejected":[]}'

#: What a server does with one request: it gets the connection and may say anything.
Behaviour = Callable[[socket.socket], None]


def answer(status: str, body: bytes = TAKEN, *headers: str) -> Behaviour:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""])
    return lambda connection: connection.sendall(head.encode() + body)


def cut_off(text: bytes) -> Behaviour:
    """Says this much and closes."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


class Server:
    """Takes connections one after the other and behaves once for each request; the last behaviour stays."""

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviours = list(behaviours)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            try:
                connection.settimeout(20)
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self._converse(connection)
            except (OSError, ValueError):
                pass
            finally:
                connection.close()

    def _converse(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        with stream:
            while line := stream.readline():
                headers = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode().partition(": ")
                    headers[name] = value
                body = stream.read(int(headers["Content-Length"]))
                self.requests.append((line.decode().strip(), headers, gzip.decompress(body)))
                behave = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
                behave(connection)

    @property
    def keys(self) -> set[str]:
        return {headers["Idempotency-Key"] for _, headers, _ in self.requests}

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


class Clock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Made:
    """Servers and sinks of one test, closed after it."""

    def __init__(self) -> None:
        self.open: list[Callable[[], None]] = []
        self.clock = Clock()

    def server(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> Server:
        server = Server(*behaviours, tls=tls)
        self.open.append(server.close)
        return server

    def sink(self, url: str, token: str | None = None, **options: Any) -> HttpSink:
        sink = HttpSink(url, token, **{"monotonic": self.clock, "sleep": self.clock.sleep, **options})
        self.open.insert(0, sink.close)  # clients first: the server ends with its connections
        return sink


@pytest.fixture
def made() -> Iterator[Made]:
    one = Made()
    yield one
    for close in one.open:
        close()


class Counting:
    """In the guard's place: what was counted."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def failed(self, reason: str, error: BaseException | None = None, lines: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + lines


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    monkeypatch.setattr(http, "GUARD", counting)
    return counting


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(http, "complain", told.append)
    return told


# --- what is sent ---------------------------------------------------------------------------------------


def test_lines_arrive_as_one_compressed_request(made: Made) -> None:
    server = made.server(answer("200 OK"))
    made.sink(f"{server.url}/tocsin/", "canary-token")([b'{"a":1}\n', b'{"b":2}\n'])
    ((request, headers, body),) = server.requests
    assert request == "POST /tocsin/api/v1/ingest HTTP/1.1"
    assert body == b'{"a":1}\n{"b":2}\n'
    assert headers["Authorization"] == "Bearer canary-token"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert len(headers["Idempotency-Key"]) == 32


def test_batches_are_bounded_and_keep_their_order(made: Made) -> None:
    server = made.server(answer("200 OK"))
    lines = [str(number).encode().rjust(60_000) + b"\n" for number in range(20)]
    made.sink(server.url)(lines)
    bodies = [body for _, _, body in server.requests]
    assert b"".join(bodies) == b"".join(lines)
    assert max(map(len, bodies)) <= BATCH_BYTES
    assert len(server.keys) == len(bodies) == 3
    assert server.connections == 1


def test_one_connection_is_kept_and_an_idle_one_is_not_trusted(made: Made) -> None:
    server = made.server(answer("200 OK"))
    sink = made.sink(server.url)
    for pause_s, connections in ((0, 1), (3, 1), (5, 2)):
        made.clock.now += pause_s
        sink([b"{}\n"])
        assert server.connections == connections


def test_a_server_that_closes_after_each_answer_is_asked_again(made: Made) -> None:
    server = made.server(answer("200 OK", TAKEN, "Connection: close"))
    sink = made.sink(server.url)
    for _ in range(3):
        sink([b"{}\n"])
    assert len(server.requests) == 3
    assert made.clock.slept == []


def test_lines_that_the_collector_refuses_are_counted(made: Made, guard: Counting) -> None:
    refused = json.dumps({"rejected": [{"line": n, "reason": "malformed"} for n in range(1, 1001)]}).encode()
    server = made.server(answer("200 OK", refused))
    made.sink(server.url)([b"{}\n"] * 1000)
    assert guard.counts == {"rejected": 1000}


# --- what goes wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        answer("503 Service Unavailable"),
        answer("429 Too Many Requests"),
        answer("500 Oops", b""),
        answer("200 OK", b"<html>Welcome to the school's network</html>"),
        answer("200 OK", b"[" * 10_000),
        cut_off(b""),
        cut_off(b"SSH-2.0-OpenSSH_9.6\r\n"),
        cut_off(b"HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n" + TAKEN[:20]),
        cut_off(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ],
)
def test_a_batch_is_sent_again_with_its_key(made: Made, trouble: Behaviour) -> None:
    server = made.server(trouble, trouble, answer("200 OK"))
    made.sink(server.url)([b"{}\n"])
    assert len(server.requests) == 3
    assert len(server.keys) == 1
    assert len(made.clock.slept) == 2


def test_retry_after_is_obeyed_within_bounds(made: Made) -> None:
    server = made.server(answer("429 Slow", b"", "Retry-After: 3"), answer("200 OK"))
    made.sink(server.url)([b"{}\n"])
    assert made.clock.slept == [3]
    server = made.server(answer("503 Later", b"", "Retry-After: 99999"))
    with pytest.raises(CollectorError):
        made.sink(server.url)([b"{}\n"])
    assert made.clock.now <= 3 + TOTAL_S


@pytest.mark.parametrize("strange", ["-5", "Wed, 21 Oct 2026 07:28:00 GMT", "²", "9" * 5000, "1e9"])
def test_a_strange_retry_after_is_none(made: Made, strange: str) -> None:
    header = f"Retry-After: {strange}".encode().decode("latin-1")
    server = made.server(answer("429 Slow", b"", header), answer("200 OK"))
    made.sink(server.url)([b"{}\n"])
    assert made.clock.now < 1


def test_S12_a_collector_that_is_down_is_tried_a_few_times_and_given_up(made: Made) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    sink = made.sink(f"http://127.0.0.1:{port}")
    with pytest.raises(CollectorError) as raised:
        sink([b"{}\n"] * 7)
    assert raised.value.lost_lines == 7
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert made.clock.now <= TOTAL_S
    assert 4 <= len(made.clock.slept) <= 10


def test_only_what_was_not_taken_is_lost(made: Made) -> None:
    server = made.server(answer("200 OK"), answer("400 Bad Request", b""))
    lines = [b"x" * 300_000 + b"\n"] * 3
    with pytest.raises(CollectorError) as raised:
        made.sink(server.url)(lines)
    assert raised.value.lost_lines == 2


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "307 Temporary", "400 Bad", "404 No", "413 Big"]
)
def test_what_is_refused_for_good_is_not_sent_again(made: Made, complaints: list[str], status: str) -> None:
    elsewhere = made.server(answer("200 OK"))
    server = made.server(answer(status, b"", f"Location: {elsewhere.url}/"))
    with pytest.raises(CollectorError) as raised:
        made.sink(server.url)([b"{}\n"])
    assert isinstance(raised.value.__cause__, RefusedError)
    assert (len(server.requests), elsewhere.requests, made.clock.slept) == (1, [], [])


def test_a_wrong_token_is_told_once_and_again_after_it_was_right(made: Made, complaints: list[str]) -> None:
    wrong = answer("401 Unauthorized", b"")
    server = made.server(wrong, wrong, answer("200 OK"), wrong)
    sink = made.sink(server.url, "canary-token")
    for taken, told in ((False, 1), (False, 1), (True, 1), (False, 2)):
        if taken:
            sink([b"{}\n"])
        else:
            with pytest.raises(CollectorError):
                sink([b"{}\n"])
        assert len(complaints) == told
    assert "401" in complaints[0]
    assert "canary" not in "".join(complaints)


# --- row S13 --------------------------------------------------------------------------------------------


def endless(head: bytes, piece: bytes) -> Behaviour:
    """Sends a gigabyte, or as much of it as is read."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range((1 << 30) // len(piece)):
            connection.sendall(piece)

    return behave


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", b" " * 65_536),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65_536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b" " * 0x8000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 1000 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", b"x" * 65_536),
    ],
    ids=["length", "close", "chunked", "headers", "continue", "status"],
)
def test_S13_a_gigabyte_is_not_read(made: Made, head: bytes, piece: bytes) -> None:
    sent = []

    def behave(connection: socket.socket) -> None:
        try:
            endless(head, piece)(connection)
        except OSError:
            sent.append("cut off")
            raise

    server = made.server(behave, answer("200 OK"))
    made.sink(server.url)([b"{}\n"])
    assert sent == ["cut off"]
    assert len(server.keys) == 1


def test_S13_a_byte_now_and_then_does_not_hold_it(made: Made) -> None:
    """Each byte arrives well within the timeout of a read; the whole call has an end all the same."""
    clock = made.clock

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            clock.now += 1
            connection.sendall(b"x")
            threading.Event().wait(0.002)

    server = made.server(drip)
    with pytest.raises(CollectorError) as raised:
        made.sink(server.url)([b"{}\n"])
    assert isinstance(raised.value.__cause__, TimeoutError)
    assert len(server.requests) == 1


def test_S13_silence_is_waited_for_only_so_long(made: Made) -> None:
    server = made.server(lambda connection: connection.recv(1) and None, answer("200 OK"))
    made.sink(server.url, timeout_s=0.05)([b"{}\n"])
    assert len(server.requests) == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that no authority has signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [*new.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files[1], "-out", files[0]],
        check=True,
        capture_output=True,
    )
    return files


def _serving(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_S13_a_certificate_that_does_not_verify_gets_nothing(
    made: Made, certificate: tuple[Path, Path]
) -> None:
    server = made.server(answer("200 OK"), tls=_serving(certificate))
    with pytest.raises(CollectorError) as raised:
        made.sink(server.url, "canary-token")([b"{}\n"])
    assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
    assert server.requests == []


def test_a_private_authority_can_be_trusted(made: Made, certificate: tuple[Path, Path]) -> None:
    server = made.server(answer("200 OK"), tls=_serving(certificate))
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    sink = made.sink(server.url, "canary-token", ssl_context=trusting)
    sink([b"1\n"])
    sink([b"2\n"])
    assert [body for _, _, body in server.requests] == [b"1\n", b"2\n"]
    assert server.connections == 1


def test_S13_proxy_variables_are_ignored(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = made.server(answer("200 OK")), made.server(answer("200 OK"))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    made.sink(server.url)([b"{}\n"])
    assert (len(server.requests), len(proxy.requests)) == (1, 0)


# --- processes ------------------------------------------------------------------------------------------


def test_S3_a_forked_process_has_a_connection_of_its_own(made: Made) -> None:
    server = made.server(answer("200 OK"))
    sink = made.sink(server.url)
    sink([b"parent 1\n"])
    # The server serves one connection after the other: the child is answered when the parent has closed.
    child = os.fork()
    if child == 0:
        try:
            sink._timeout_s = 20.0
            sink._monotonic = lambda: 0.0
            sink([b"child\n"])
        finally:
            os._exit(0)
    sink([b"parent 2\n"])
    sink.close()
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(body for _, _, body in server.requests) == [b"child\n", b"parent 1\n", b"parent 2\n"]
    assert server.connections == 2


def test_where_there_is_no_thread_lines_are_lost_at_once(made: Made) -> None:
    server = made.server(answer("200 OK"))
    with pytest.raises(CollectorError) as raised:
        made.sink(server.url).without_waiting([b"{}\n", b"{}\n"])
    assert (raised.value.lost_lines, server.requests) == (2, [])


def test_importing_tocsin_loads_no_http() -> None:
    loaded = "import sys, tocsin; print([m for m in ('http.client', 'ssl', 'socket') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# --- the address ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("tocsin.example.org", None),
        ("ftp://tocsin.example.org", None),
        ("https://", None),
        ("https://tocsin.example.org:99999", None),
        ("https://[::1", None),
        ("https://user:canary@tocsin.example.org", None),
        ("https://tocsin.example.org/?a=1", None),
        ("https://tocsin.example.org/a b", None),
        ("https://tocsin.example.org/\r\nX: y", None),
        ("https://tocsin.example.org", "canary\r\nX: y"),
        ("https://tocsin.example.org", ""),
    ],
)
def test_a_wrong_address_or_token_is_told_at_once(url: str, token: str | None) -> None:
    with pytest.raises(ConfigurationError) as raised:
        HttpSink(url, token)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("https://tocsin.example.org", False),
        ("http://tocsin.example.org", True),
        ("http://198.51.100.7.example:80", True),
        ("http://93.184.215.14", True),
        ("http://127.0.0.1:8642", False),
        ("http://[::1]:8642", False),
        ("http://10.2.3.4", False),
        ("http://tocsin:8642", False),
        ("http://tocsin.railway.internal:8642", False),
    ],
)
def test_a_token_in_plain_text_is_warned_about(url: str, warned: bool, complaints: list[str]) -> None:
    HttpSink(url, "canary-token")
    assert bool(complaints) == warned
    assert "canary" not in "".join(complaints)


def test_an_ipv6_address_is_an_address(made: Made) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        sink = made.sink(f"http://[::1]:{port}", timeout_s=0.05)
        with pytest.raises(CollectorError) as raised:
            sink([b"{}\n"])
    assert isinstance(raised.value.__cause__, TimeoutError)  # connected; nobody answers


# --- a real Tocsin --------------------------------------------------------------------------------------


def count(server: Running, name: str) -> dict[str, int]:
    """How often each queue's event is stored."""
    sql = f"SELECT queue, count(*) FROM events WHERE name = '{name}' GROUP BY queue"
    asked = json.dumps({"sql": sql}).encode()
    rows = server.ask("POST", "/api/v1/query", asked, **{"Content-Type": "application/json"})["rows"]
    return dict(rows)


def test_a_thousand_events_are_a_thousand_events(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        tocsin.configure(service="k12-core", environment="test", sink=HttpSink(server.url))
        for number in range(1000):
            tocsin.emit("job.queue", queue=f"queue-{number % 3}", depth=number)
        emitter = tocsin.emitter.current()  # type: ignore[attr-defined]
        assert emitter.flush(30)
        assert count(server, "job.queue") == {"queue-0": 334, "queue-1": 333, "queue-2": 333}
        emitter.close()
        emitter.sink.close()


def test_D4_a_killed_collector_takes_nothing_twice_and_what_is_retried_is_not_lost(tmp_path: Path) -> None:
    first = Running(tmp_path)
    first.wait()
    port = int(first.url.rpartition(":")[2])
    sink = HttpSink(first.url, monotonic=Clock())
    again: list[Running] = []

    def restart(_seconds: float) -> None:
        """In the place of the first wait: the collector comes back."""
        if not again:
            again.append(Running(tmp_path, "--port", str(port)))
            again[0].wait()

    sink._sleep = restart
    lines = [
        b'{"metric":"job.queue","tags":{"queue":"q%d","depth":1},"timestamp":"%s","service":"k12-core"}\n'
        % (number, _now())
        for number in range(300)
    ]
    try:
        sink(lines[:100])
        first.end(signal.SIGKILL)
        sink(lines[100:200])
        sink(lines[200:])
        assert len(again) == 1
        stored = count(again[0], "job.queue")
        assert len(stored) == 300
        assert set(stored.values()) == {1}
    finally:
        sink.close()
        for server in again:
            server.end(signal.SIGKILL)


def test_an_answer_that_got_lost_does_not_count_lines_twice(tmp_path: Path, made: Made) -> None:
    with running(tmp_path) as collector:
        answers = []

        def lose(connection: socket.socket) -> None:
            """Passes the request on, and says nothing the first time."""
            _, headers, body = passing.requests[-1]
            key = {"Idempotency-Key": headers["Idempotency-Key"]}
            answers.append(collector.post(body, **key))
            if len(answers) > 1:
                answer("200 OK", json.dumps(answers[-1]).encode())(connection)
            else:
                connection.shutdown(socket.SHUT_RDWR)

        passing = made.server(lose)
        made.sink(passing.url)(
            [
                b'{"metric":"job.queue","tags":{"queue":"default","depth":%d},"timestamp":"%s","service":"s"}\n'
                % (number, _now())
                for number in range(50)
            ]
        )
        assert answers[0] == answers[1]
        assert count(collector, "job.queue") == {"default": 50}


def _now() -> bytes:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()


def test_S14_no_person_and_no_token_is_sent_or_told(
    made: Made, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = made.server(answer("200 OK"))
    monkeypatch.setenv("COLLECTOR", server.url)
    monkeypatch.setenv("COLLECTOR_TOKEN", "canary-collector-token")
    snippets.run("instrumentation/collector.md", 0)
    tocsin.emit(
        "auth.login", provider="saml", user_id="maya.lopez@example.org", token="sk-canary", status="success"
    )
    tocsin.log("ERROR", "cannot mail maya.lopez@example.org", student_name="Maya Lopez")
    emitter = tocsin.emitter.current()  # type: ignore[attr-defined]
    assert emitter.flush(30)
    emitter.close()
    emitter.sink.close()
    sent = b"".join(body for _, _, body in server.requests)
    assert b'"auth.login"' in sent
    assert [trace for trace in (b"maya", b"Maya", b"canary") if trace in sent] == []
    assert complaints == []
