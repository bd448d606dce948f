"""The guard of outgoing requests (row I15): what is refused sends no byte, what is sent is bounded."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import listening, reply, serving

from tocsin_server.outbound import RequestFailed, request, system_addresses
from tocsin_server.outbound.addresses import refusal

# --- I15: what is refused ---------------------------------------------------------------------------------

#: Names that an attacker's DNS answers; everything else is read as a numeric address or is unknown.
ZONE = {
    "loop.example.com": ["127.0.0.1"],
    "loop6.example.com": ["::1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "both.example.com": ["192.0.2.1", "127.0.0.1"],
    "public-first.example.com": ["8.8.8.8", "127.0.0.1"],
    "ten.example.com": ["10.0.0.5"],
    "metadata.example.com": ["169.254.169.254"],
    "ula.example.com": ["fd00::1"],
    "six-to-four.example.com": ["2002:7f00:1::"],
    "nat64.example.com": ["64:ff9b::7f00:1"],
    "teredo.example.com": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "scoped.example.com": ["fe80::1%1"],
    "zero.example.com": ["0.0.0.0"],
    "localhost.localdomain": ["127.0.0.1"],
    "localhost.": ["127.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
}


def attackers_dns(host: str, port: int) -> list[str]:
    if host in ZONE:
        return ZONE[host]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(entry[4][0]) for entry in found]


FORMS = r"""
http://2130706433:{port}/ http://0x7f000001:{port}/ http://017700000001:{port}/ http://0x7f.0.0.1:{port}/
http://0177.0.0.1:{port}/ http://0177.0.0.01:{port}/ http://127.1:{port}/ http://127.0.1:{port}/
http://0x7f.1:{port}/ http://0x7F.0x0.0x0.0x1:{port}/ http://00000177.0.0.1:{port}/ http://0:{port}/
http://0.0.0.0:{port}/ http://0x0:{port}/ http://4294967295:{port}/ http://127.0.0.1.:{port}/
http://[::ffff:127.0.0.1]:{port}/ http://[::ffff:7f00:1]:{port}/ http://[0:0:0:0:0:ffff:7f00:1]:{port}/
http://[::127.0.0.1]:{port}/ http://[::]:{port}/ http://[0:0:0:0:0:0:0:1]:{port}/ http://[0000::1]:{port}/
http://[64:ff9b::127.0.0.1]:{port}/ http://[2002:7f00:1::]:{port}/ http://[::1%25lo]:{port}/
http://[fe80::1]:{port}/ http://[ff02::1]:{port}/ http://[::1:{port}/ http://[v1.x]:{port}/
http://①②⑦.⓪.⓪.①:{port}/ http://１２７.0.0.1:{port}/ http://127。0。0。1:{port}/ http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/
http://ｌocalhost:{port}/ http://127%2e0%2e0%2e1:{port}/ http://%6c%6f%63alhost:{port}/
http://169.254.169.254/latest/meta-data/ http://169.254.1.1:{port}/ http://224.0.0.1:{port}/
http://240.0.0.1:{port}/ http://255.255.255.255:{port}/
http://user@127.0.0.1:{port}/ http://user:pass@127.0.0.1:{port}/ http://@127.0.0.1:{port}/
http://example.com@127.0.0.1:{port}/ http://127.0.0.1:{port}@example.com/ http://:{port}/ http:///x
http://127.0.0.1:{port}\@example.com/ http:\\127.0.0.1:{port}/ http:127.0.0.1:{port}/
//127.0.0.1:{port}/ 127.0.0.1:{port}/ /x http://127.0.0.1:0/ http://127.0.0.1:99999/ http://127.0.0.1:x/
file:///etc/passwd file://127.0.0.1:{port}/etc/passwd gopher://127.0.0.1:{port}/_GET ftp://127.0.0.1:{port}/
dict://127.0.0.1:{port}/d ldap://127.0.0.1:{port}/ jar:http://127.0.0.1:{port}/!/ data:text/plain,x
ws://127.0.0.1:{port}/ unix:///var/run/docker.sock javascript:alert(1) HTTP+UNIX://x/
"""

REFUSED = [
    *FORMS.split(),
    *(f"http://{name}:{{port}}/" for name in ZONE),
    *("https://" + name + ":{port}/" for name in ("loop.example.com", "127.1", "[::ffff:127.0.0.1]")),
    "http://127.0.0.1:{port}/\r\nX: y",
    "http://127.0.0.1:{port}/\t",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/a b",
    "http://127.0.0.1:{port}/\x00",
    "http://127.0.0.1:{port}/é",
    "http://" + "a" * 64 + ".example.com:{port}/",
    "http://a..b:{port}/",
    "http://loop.example.com\u3002:{port}/",
    "",
    "x" * 9000,
]


@pytest.fixture(scope="module")
def canary() -> Iterator[tuple[int, list[object]]]:
    """A port of the loopback addresses, and the connections that it saw."""
    seen: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as four:
        port = four.getsockname()[1]
        servers = [four]
        with contextlib.suppress(OSError):
            servers.append(socket.create_server(("::1", port), family=socket.AF_INET6))
        threads = [threading.Thread(target=_watch, args=(server, seen)) for server in servers]
        for thread in threads:
            thread.start()
        yield port, seen
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            server.close()


def _watch(server: socket.socket, seen: list[object]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, peer = server.accept()
            seen.append(peer)
            connection.close()


def test_I15_there_are_at_least_sixty_forms() -> None:
    assert len(set(REFUSED)) >= 60


@pytest.mark.parametrize("form", REFUSED)
def test_I15_no_byte_reaches_the_canary(form: str, canary: tuple[int, list[object]]) -> None:
    port, seen = canary
    with pytest.raises(RequestFailed) as caught:
        request("GET", form.replace("{port}", str(port)), timeout_s=5, resolve=attackers_dns)
    assert caught.value.failure in ("refused_address", "dns"), caught.value
    assert seen == []


def test_I15_a_redirect_is_an_answer_and_is_not_followed(canary: tuple[int, list[object]]) -> None:
    port, seen = canary
    with serving(reply(302, Location=f"http://127.0.0.1:{port}/")) as base:
        answer = request("GET", base + "/x")
    assert (answer.status, answer.headers["location"]) == (302, f"http://127.0.0.1:{port}/")
    assert seen == []


def test_I15_a_name_that_flips_is_looked_up_once_and_the_checked_address_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    connected: list[str] = []

    def flipping(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["8.8.8.8" if len(asked) == 1 else "127.0.0.1"]

    def connect(address: tuple[str, int], _timeout: float) -> socket.socket:
        connected.append(address[0])
        raise OSError("the network is far away")

    monkeypatch.setattr(socket, "create_connection", connect)
    failures = []
    for _ in range(2):
        with pytest.raises(RequestFailed) as caught:
            request("GET", "http://flip.example.com/", resolve=flipping)
        failures.append(caught.value.failure)
    assert failures == ["connection", "refused_address"]
    assert (len(asked), connected) == (2, ["8.8.8.8"])


def test_I15_what_the_operator_wrote_down_is_asked() -> None:
    with serving(reply(204, b"")) as base:
        port = base.rpartition(":")[2]
        hosts = frozenset({"Core.internal"})
        assert request("GET", base).status == 204
        assert request("GET", f"http://LOCALHOST:{port}", resolve=lambda *_: ["127.0.0.1"]).status == 204
        url = f"http://core.internal:{port}/"
        assert request("GET", url, private_hosts=hosts, resolve=lambda *_: ["127.0.0.1"]).status == 204
        with pytest.raises(RequestFailed, match="add it to private_hosts"):
            request("GET", url, resolve=lambda *_: ["127.0.0.1"])


PUBLIC = st.sampled_from(["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
NOT_PUBLIC = st.sampled_from([
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "ff02::1",
    "fec0::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1",
])  # fmt: skip


@given(st.lists(PUBLIC, min_size=1, max_size=4), NOT_PUBLIC, st.integers(0, 4))
def test_I15_one_address_that_is_not_public_refuses_the_name(
    public: list[str], other: str, position: int
) -> None:
    assert refusal("name.example.com", public, frozenset()) == ""
    public.insert(position, other)
    assert other in refusal("name.example.com", public, frozenset())
    assert refusal("name.example.com", public, frozenset({"name.example.com"})) == ""


# --- bounds -----------------------------------------------------------------------------------------------


def test_the_answer_is_whole_and_repeated_headers_are_joined() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for value in ("a=1; Secure", "b=2"):
            handler.send_header("Set-Cookie", value)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")

    with serving(answer) as base:
        found = request("GET", base)
    assert (found.status, found.body, found.truncated) == (200, b"ok", False)
    assert found.headers["set-cookie"] == "a=1; Secure\nb=2"
    assert found.duration_ms > 0


@pytest.mark.parametrize(("size", "truncated"), [(99, False), (100, False), (101, True), (5_000_000, True)])
def test_the_body_is_cut_at_the_limit(size: int, truncated: bool) -> None:
    with serving(reply(200, b"x" * size)) as base:
        answer = request("GET", base, max_bytes=100)
    assert (len(answer.body), answer.truncated) == (min(size, 100), truncated)


def test_what_is_sent_is_what_was_given_and_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    seen: dict[str, object] = {}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers["Content-Length"])
        seen.update(line=handler.requestline, headers=dict(handler.headers), body=handler.rfile.read(length))
        reply()(handler)

    with serving(answer) as base:
        request("POST", base + "/hook?x=1", headers={"X-Key": "v", "User-Agent": "probe"}, body=b"{}")
    assert seen == {
        "line": "POST /hook?x=1 HTTP/1.1",
        "body": b"{}",
        "headers": {
            "Host": base.removeprefix("http://"),
            "Connection": "close",
            "accept": "*/*",
            "accept-encoding": "identity",
            "X-Key": "v",
            "User-Agent": "probe",
            "Content-Length": "2",
        },
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\0b"), ("X\r\nY", "b"), ("X Y", "b"), ("X", "€"), ("É", "b")]
    + [(name, "x") for name in ("Host", "content-length", "Transfer-Encoding", "Connection", "Upgrade")],
)
def test_a_header_cannot_smuggle(name: str, value: str) -> None:
    with serving(reply()) as base, pytest.raises(RequestFailed) as caught:
        request("GET", base, headers={name: value})
    assert caught.value.failure == "protocol"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "GET / HTTP/1.1\r\n"])
def test_only_known_methods_are_sent(method: str) -> None:
    with pytest.raises(RequestFailed) as caught:
        request(method, "http://127.0.0.1:9/")
    assert caught.value.failure == "protocol"


def _silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _drip(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"x")
        time.sleep(0.02)  # a slow server, not a wait of the test


def _drip_head(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(1000):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("scheme", "talk"), [("http", _silent), ("http", _drip), ("http", _drip_head), ("https", _silent)]
)
def test_the_whole_of_a_request_is_bounded(scheme: str, talk: Callable[[socket.socket], None]) -> None:
    with listening(talk) as port:
        started = time.monotonic()
        with pytest.raises(RequestFailed) as caught:
            request("GET", f"{scheme}://127.0.0.1:{port}/", timeout_s=0.2)
        assert time.monotonic() - started < 20
    assert caught.value.failure == "timeout"
    assert "did not answer within 0.2 s" in str(caught.value)


def test_a_slow_look_up_is_bounded_too() -> None:
    asked = threading.Event()

    def slow(_host: str, _port: int) -> list[str]:
        asked.wait(10)
        return []

    with pytest.raises(RequestFailed) as caught:
        request("GET", "http://slow.example.com/", timeout_s=0.1, resolve=slow)
    asked.set()
    assert caught.value.failure == "timeout"


def _endless_head(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Junk: " + b"y" * 8192 + b"\r\n")


@pytest.mark.parametrize(
    ("talk", "failure"),
    [
        (_endless_head, "protocol"),
        (lambda connection: connection.sendall(b"SSH-2.0-x\r\n" * 9), "protocol"),
        (lambda connection: connection.recv(9), "protocol"),
    ],
)
def test_what_is_not_http_is_a_protocol_failure(talk: Callable[[socket.socket], None], failure: str) -> None:
    with listening(talk) as port, pytest.raises(RequestFailed) as caught:
        request("GET", f"http://127.0.0.1:{port}/")
    assert caught.value.failure in (failure, "connection")  # a reset may overtake the answer


def test_a_closed_port_and_an_unknown_name_have_their_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RequestFailed, match="Connection refused") as caught:
        request("GET", f"http://127.0.0.1:{port}/secret-path?key=1")
    assert (caught.value.failure, "secret" in str(caught.value)) == ("connection", False)
    with pytest.raises(RequestFailed, match="has no address") as caught:
        request("GET", "http://nobody.example.com/", resolve=attackers_dns)
    assert caught.value.failure == "dns"


def test_tls_asks_for_the_name_of_the_url_and_refuses_a_server_that_cannot_prove_it() -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True).close()

    with listening(talk) as port, pytest.raises(RequestFailed) as caught:
        request(
            "GET",
            f"https://core.internal:{port}/",
            private_hosts=frozenset({"core.internal"}),
            resolve=lambda *_: ["127.0.0.1"],
        )
    assert (caught.value.failure, names) == ("tls", ["core.internal"])


def test_the_next_address_is_tried_when_the_first_does_not_answer() -> None:
    with serving(reply()) as base:
        port = int(base.rpartition(":")[2])
        answer = request(
            "GET",
            f"http://two.internal:{port}/",
            private_hosts=frozenset({"two.internal"}),
            resolve=lambda *_: ["127.0.0.2", "127.0.0.1"],
        )
    assert answer.status == 200


def test_the_machines_resolver_reads_odd_forms_as_addresses() -> None:
    assert system_addresses("2130706433", 80) == ["127.0.0.1"]
