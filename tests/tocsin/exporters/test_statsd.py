"""``StatsdExporter``: what arrives at an agent, read by a small parser of the two protocols."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import statsd as statsd_package

import tocsin
from tests.tocsin import snippets
from tests.tocsin.exporters.feeding import CANARIES, MORE_CANARIES, TRACES, feeding
from tocsin.events import EVENTS
from tocsin.exporters import statsd
from tocsin.exporters.statsd import DATAGRAM_BYTES, StatsdExporter
from tocsin.guard import Guard


class Line(NamedTuple):
    name: str
    value: float
    type: str
    tags: dict[str, str]
    message: str = ""


def parse(datagram: bytes) -> list[Line]:
    """One datagram, after DogStatsD's description of the datagram format; fails for what is malformed."""
    return [_parse(line) for line in datagram.decode().split("\n")]


def _parse(line: str) -> Line:
    head, *parts = line.split("|")
    if head == "_sc":
        name, status, *parts = parts
        value, kind = status, "_sc"
    else:
        name, value = head.split(":")
        kind, *parts = parts
        assert kind in ("c", "g", "ms", "h", "d", "s")
    tags, message = {}, ""
    for part in parts:
        if part.startswith("#"):
            tags = dict(tag.split(":", 1) for tag in part[1:].split(","))
        else:
            assert part.startswith("m:")
            message = part[2:]
    return Line(name, float(value), kind, tags, message)


class Agent:
    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def datagrams(self, count: int = 1) -> list[bytes]:
        return [self.socket.recv(65_536) for _ in range(count)]

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(65_536)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def agent() -> Iterator[Agent]:
    opened = Agent(socket.AF_INET, ("127.0.0.1", 0))
    yield opened
    opened.socket.close()


@pytest.fixture
def exporter(agent: Agent) -> Iterator[StatsdExporter]:
    made = StatsdExporter(port=agent.port)
    yield made
    made.close()


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch, internal_failures: Guard) -> Guard:
    monkeypatch.setattr(statsd, "GUARD", internal_failures)
    return internal_failures


def test_an_event_arrives_as_the_lines_that_datadog_reads(agent: Agent, exporter: StatsdExporter) -> None:
    with feeding(exporter):
        tocsin.emit(
            "api.request", method="GET", route="/api/v1/courses/:id", status=200, duration_ms=123.4, path="/x"
        )
        tocsin.emit("job.completed", job_class="PdfExportJob", status="error", duration_ms=5)
        tocsin.emit("health.check", target="ai-gateway", status="failure", reason="timeout")
    assert agent.datagrams(3) == [
        b"k12.api.request:123.4|ms|#method:GET,route:/api/v1/courses/:id,status:200",
        b"k12.job.completed:1|c|#job_class:PdfExportJob,status:error\n"
        b"k12.job.duration:5|ms|#job_class:PdfExportJob,status:error",
        b"_sc|k12.ai_gateway|2|#target:ai-gateway|m:timeout",
    ]


def test_every_event_of_the_catalogue_is_well_formed(agent: Agent, exporter: StatsdExporter) -> None:
    for event in EVENTS.values():
        exporter({"metric": event.name, "fields": dict(event.example)})
    exporter.flush()
    lines = [line for datagram in agent.datagrams() for line in parse(datagram)]
    assert {"k12.db.disk.used_bytes", "k12.sync.records", "k12.ai.tokens.total", "k12.auth.login"} <= {
        line.name for line in lines
    }
    disk = next(line for line in lines if line.name == "k12.db.disk.used_bytes")
    assert disk == Line("k12.db.disk.used_bytes", 41_875_931_136, "g", {"volume": "core-postgres"})


def test_values_cannot_break_the_format(agent: Agent) -> None:
    exporter = StatsdExporter(port=agent.port, prefix="", tags={"te|am": "a,b"})
    exporter(
        {
            "metric": "job.queue",
            "fields": {"queue": "a|b#c,d:e\nk12.forged:1|c\r\x00 é" + "x" * 999, "depth": 1},
        }
    )
    exporter.close()
    (line,) = parse(agent.datagrams()[0])
    assert line.tags["queue"].startswith("a_b_c_d:e_k12.forged:1_c___")
    assert len(line.tags["queue"]) == 200
    assert line.tags["te_am"] == "a_b"


def test_datagrams_are_full_and_fit(agent: Agent, exporter: StatsdExporter) -> None:
    for number in range(100):
        exporter({"metric": "job.queue", "fields": {"queue": f"queue-{number}", "depth": number}})
    exporter.flush()
    received: list[Line] = []
    sizes = []
    while len(received) < 100:
        (datagram,) = agent.datagrams()
        sizes.append(len(datagram))
        received += parse(datagram)
    assert [line.value for line in received] == [*range(100)]
    assert max(sizes) <= DATAGRAM_BYTES
    assert min(sizes[:-1]) > DATAGRAM_BYTES - 60


def test_nothing_is_sent_twice_or_for_nothing(agent: Agent, exporter: StatsdExporter) -> None:
    exporter({"metric": "job.queue", "fields": {"queue": "default", "depth": 1}})
    exporter.flush()
    exporter.flush()
    exporter({"metric": "deploy", "fields": {"version": "1"}})
    exporter.flush()
    assert len(agent.datagrams()) == 1
    assert agent.silent()


def test_plain_statsd_says_what_the_statsd_package_says(agent: Agent) -> None:
    exporter = StatsdExporter(port=agent.port, dialect="statsd")
    with feeding(exporter):
        tocsin.emit("auth.login", provider="google", status="failure", reason="invalid_grant")
        tocsin.emit("job.queue", queue="default", depth=42)
        tocsin.emit("api.request", method="GET", route="/courses/:id", status=200, duration_ms=42.6)
        tocsin.emit("health.check", target="ai.gateway", status="success")
    exporter.close()
    ours = [parse(datagram) for datagram in agent.datagrams(4)]
    client = statsd_package.StatsClient("127.0.0.1", agent.port, prefix="k12")
    client.incr("auth.login.google.failure.invalid_grant")
    client.gauge("job.queue.depth.default", 42)
    client.timing("api.request.GET.courses_id.200", 42.6)
    client.gauge("health.check.ai_gateway", 1)
    client.close()
    assert ours == [parse(datagram) for datagram in agent.datagrams(4)]


def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    path = str(tmp_path / "dsd.socket")
    agent = Agent(socket.AF_UNIX, path)
    exporter = StatsdExporter(path=path)
    exporter({"metric": "job.queue", "fields": {"queue": "default", "depth": 1}})
    exporter.close()
    assert parse(agent.datagrams()[0]) == [Line("k12.job.queue.depth", 1, "g", {"queue": "default"})]
    agent.socket.close()


def test_S12_an_agent_that_is_gone_costs_nothing_and_is_counted(tmp_path: Path, guard: Guard) -> None:
    now = [0.0]
    path = str(tmp_path / "dsd.socket")
    exporter = StatsdExporter(path=path, monotonic=lambda: now[0])
    record = {"metric": "job.queue", "fields": {"queue": "default", "depth": 1}}
    for _ in range(3):
        exporter(record)
        exporter.flush()
    assert guard.counts == {"statsd": 3}
    agent = Agent(socket.AF_UNIX, path)
    exporter(record)
    exporter.flush()
    assert guard.counts == {"statsd": 4}  # it pauses before it tries again
    now[0] = 6.0
    exporter(record)
    exporter.flush()
    assert len(agent.datagrams()) == 1
    exporter.close()
    agent.socket.close()


def test_a_refused_datagram_is_counted(guard: Guard) -> None:
    closed = Agent(socket.AF_INET, ("127.0.0.1", 0))
    exporter = StatsdExporter(port=closed.port)
    closed.socket.close()
    for _ in range(3):
        exporter({"metric": "job.queue", "fields": {"queue": "default", "depth": 1}})
        exporter.flush()
    assert guard.counts["statsd"] >= 1
    exporter.close()


def test_a_full_buffer_loses_only_what_does_not_fit(
    agent: Agent, exporter: StatsdExporter, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"metric": "job.queue", "fields": {"queue": "default", "depth": 1}}
    exporter(record)
    exporter.flush()

    class Full:
        def send(self, datagram: bytes) -> int:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    real = exporter._socket
    monkeypatch.setattr(exporter, "_socket", Full())
    exporter(record)
    exporter.flush()
    monkeypatch.setattr(exporter, "_socket", real)
    exporter(record)
    exporter.flush()
    assert guard.counts == {"statsd": 1}
    assert len(agent.datagrams(2)) == 2


def test_S3_a_fork_sends_nothing_twice(agent: Agent, exporter: StatsdExporter) -> None:
    exporter({"metric": "job.queue", "fields": {"queue": "parent", "depth": 1}})
    child = os.fork()
    if child == 0:
        try:
            exporter({"metric": "job.queue", "fields": {"queue": "child", "depth": 2}})
            exporter.flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    exporter.flush()
    lines = [line for datagram in agent.datagrams(2) for line in parse(datagram)]
    assert [line.tags["queue"] for line in lines] == ["child", "parent"]


def test_S14_no_person_is_in_a_datagram(agent: Agent, exporter: StatsdExporter) -> None:
    with feeding(exporter):
        for event in EVENTS.values():
            tocsin.emit(event.name, **{**event.example, **CANARIES, **MORE_CANARIES})
    text = b"".join(agent.datagrams(9)).decode().lower()
    assert [trace for trace in TRACES if trace in text] == []


@pytest.mark.parametrize(
    "options", [{"dialect": "influx"}, {"dialect": "statsd", "tags": {"env": "production"}}]
)
def test_wrong_options_are_told_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dialect"):
        StatsdExporter(**options)


def test_the_page_shows_what_happens(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatsdExporter.__init__, "__defaults__", ("127.0.0.1", agent.port))
    snippets.run("instrumentation/statsd.md", 0)
    tocsin.emit("job.queue", queue="default", depth=3)
    assert parse(agent.datagrams()[0]) == [
        Line("k12.job.queue.depth", 3, "g", {"env": "production", "service": "k12-core", "queue": "default"})
    ]
    closing = tocsin.emitter.current()  # type: ignore[attr-defined]
    closing.close()
    for made in closing.exporters:
        made.close()
