"""Rows S4 and S5 of the reliability bar with real servers; ``BAR_SCALE`` multiplies requests and tasks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.tocsin.bar_apps.exits import KINDS as EXITS
from tests.tocsin.servers import get, wait_for

SCALE = int(os.environ.get("BAR_SCALE", "1"))
REQUESTS = 100 * SCALE

#: Nothing here may take longer, also on a slow machine.
PATIENCE_S = 60.0 * SCALE

#: An exit may wait two seconds for a reader that does not read; the rest is for slow machines.
EXIT_S = 6.0

#: So many events fill a pipe, which holds 64 KiB, several times.
TOO_MANY_FOR_A_PIPE = 3000

APPS = "tests.tocsin.bar_apps"
REPOSITORY = Path(__file__).parents[2]


class Host:
    """A process group that prints into a pipe, which ``cat`` empties into a file."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: subprocess.Popen[bytes], output: Path
    ) -> None:
        self.process, self.reader, self._output = process, reader, output

    def end(self, number: int | None = signal.SIGTERM) -> int:
        """Sends the signal, if any, and waits; the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def lines(self, *, talkative: bool = False) -> list[dict[str, Any]]:
        """All that it has printed, once nobody can print any more; a ``talkative`` host prints text, too."""
        assert self.reader.wait(PATIENCE_S) == 0
        lines = self._output.read_bytes().splitlines()
        return [orjson.loads(line) for line in lines if not talkative or line.startswith(b"{")]

    @property
    def printed(self) -> bytes:
        """What has arrived so far."""
        return self._output.read_bytes()

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far."""
        return self._output.with_suffix(".err").read_text()


@contextmanager
def running(
    folder: Path, *arguments: str, listener: socket.socket | None = None, **environment: str
) -> Iterator[Host]:
    """Runs ``python -m ARGUMENTS`` in the repository, as the leader of a process group of its own."""
    output = folder / "out"
    with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=reader.stdin,
            stderr=err,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
            pass_fds=[listener.fileno()] if listener else [],
            start_new_session=True,
        )
        assert reader.stdin
        reader.stdin.close()
    try:
        yield Host(process, reader, output)
    finally:
        for kill in (lambda: os.killpg(process.pid, signal.SIGKILL), reader.kill):
            try:
                kill()
            except ProcessLookupError:
                continue
        process.wait()
        reader.wait()


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[Host, int]]:
    """A server that is given a listening socket by its descriptor; also the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        arguments = tuple(argument.format(fd=listener.fileno()) for argument in arguments)
        with running(folder, *arguments, listener=listener, **environment) as host:
            yield host, listener.getsockname()[1]


def ask(port: int, numbers: range = range(REQUESTS)) -> None:
    """Sends the requests, eight at a time; each is answered."""
    with ThreadPoolExecutor(8) as clients:
        for answer in clients.map(lambda number: get(port, f"/?{number}"), numbers):
            assert b" 200 " in answer.partition(b"\r\n")[0]


def values(lines: list[dict[str, Any]], name: str, field: str) -> list[Any]:
    """The field of each event of that name."""
    return [line["tags"][field] for line in lines if line.get("metric") == name]


def assert_each_once(lines: list[dict[str, Any]], expected: int = REQUESTS) -> None:
    """The first event, the log line and the last event of each request are there, once."""
    numbers = list(range(expected))
    assert sorted(values(lines, "began", "number")) == numbers
    assert sorted(line["number"] for line in lines if "message" in line and "number" in line) == numbers
    assert sorted(values(lines, "ended", "number")) == numbers


def assert_last_of_each_worker(lines: list[dict[str, Any]]) -> int:
    """Each process that has served printed what it printed last; how many they are."""
    workers = set(values(lines, "ended", "worker"))
    last = Counter(values(lines, "last", "worker"))
    assert {worker: last[worker] for worker in workers} == dict.fromkeys(workers, 1)
    return len(workers)


def assert_quiet(stderr: str) -> None:
    """Nobody's exit went wrong."""
    for word in ("Fatal Python error", "Traceback", "lines lost"):
        assert word not in stderr, stderr


GUNICORN = ("-m", "gunicorn", "--bind", "fd://{fd}", "--workers", "2")
UVICORN = ("-m", "uvicorn", "--fd", "{fd}", "--log-level", "warning", f"{APPS}.web:instrumented")
WORKERS = {
    "sync": ("sync", f"{APPS}.web:wsgi"),
    "gthread": ("gthread", f"{APPS}.web:wsgi"),
    "uvicorn": ("uvicorn.workers.UvicornWorker", f"{APPS}.web:instrumented"),
}


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("worker", WORKERS)
def test_S4_S5_gunicorn_loses_nothing(worker: str, preload: bool, tmp_path: Path) -> None:
    kind, app = WORKERS[worker]
    options = ["--threads", "4"] if worker == "gthread" else []
    options += ["--preload"] if preload else []
    with serving(tmp_path, *GUNICORN, "--worker-class", kind, *options, app) as (host, port):
        ask(port)
        assert host.end() == 0
        lines = host.lines()
    assert_each_once(lines)
    workers = assert_last_of_each_worker(lines)
    imported = values(lines, "imported", "worker")
    # A worker that was still starting when all was served has imported nothing.
    assert len(imported) == 1 if preload else {*values(lines, "ended", "worker")} <= {*imported}
    assert workers <= 2
    assert_quiet(host.stderr)


@pytest.mark.parametrize("worker", ["sync", "gthread"])  # uvicorn's drops connections when it is replaced
def test_S4_S5_workers_that_gunicorn_replaces_lose_nothing(worker: str, tmp_path: Path) -> None:
    kind, app = WORKERS[worker]
    options = ("--worker-class", kind, "--preload", "--max-requests", "10")
    with serving(tmp_path, *GUNICORN, *options, app) as (host, port):
        ask(port, range(REQUESTS // 2))
        wait_for(lambda: b'"last"' in host.printed)
        ask(port, range(REQUESTS // 2, REQUESTS))
        assert host.end() == 0
        lines = host.lines()
    assert_each_once(lines)
    assert_last_of_each_worker(lines)
    assert_quiet(host.stderr)


@pytest.mark.parametrize("workers", [1, 2])
def test_S4_S5_uvicorn_loses_nothing(workers: int, tmp_path: Path) -> None:
    with serving(tmp_path, *UVICORN, "--workers", str(workers)) as (host, port):
        ask(port)
        code = host.end()
        lines = host.lines()
    assert code in (0, -signal.SIGTERM)
    assert_each_once(lines)
    assert assert_last_of_each_worker(lines) <= workers
    assert_quiet(host.stderr)


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_S5_the_last_line_of_an_asgi_application_is_written_if_sigterm_flushes(
    server: str, tmp_path: Path
) -> None:
    """Without the middleware, which flushes at the lifespan's end; the server ends with the signal."""
    worker = ("--worker-class", WORKERS["uvicorn"][0])
    arguments = UVICORN[:-1] if server == "uvicorn" else (*GUNICORN, *worker)
    with serving(tmp_path, *arguments, f"{APPS}.web:asgi", TOCSIN_FLUSH_ON_SIGTERM="1") as (host, port):
        ask(port)
        host.end()
        lines = host.lines()
    assert_each_once(lines)
    assert_last_of_each_worker(lines)


UWSGI = shutil.which("uwsgi")


@pytest.mark.skipif(UWSGI is None and SCALE == 1, reason="uWSGI is not installed")
@pytest.mark.parametrize("threads", [[], ["--enable-threads"]], ids=["", "threads"])
@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["", "lazy"])
def test_S4_S5_uwsgi_loses_nothing(threads: list[str], lazy: list[str], tmp_path: Path) -> None:
    assert UWSGI, "uWSGI is not installed"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    command = (UWSGI, "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2", "--die-on-term")
    home = ("--home", sys.prefix, "--module", f"{APPS}.web:wsgi", "--disable-logging")
    with running(tmp_path, "-c", code, *command, *home, *threads, *lazy) as host:
        wait_for(lambda: "spawned uWSGI worker 2" in host.stderr)
        ask(port)
        host.end()
        lines = host.lines()
    assert_each_once(lines)
    assert_last_of_each_worker(lines)
    assert_quiet(host.stderr)


@pytest.mark.parametrize(
    "kind",
    [
        "pool-fork",
        "pool-spawn",
        "process-fork",
        "process-spawn",
        "executor-fork",
        "executor-spawn",
        "os-fork",
    ],
)
def test_S4_processes_of_the_application_lose_nothing(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, "-m", f"{APPS}.pools", kind, str(REQUESTS)) as host:
        assert host.end(None) == 0, host.stderr
        lines = host.lines()
    assert_each_once(lines)
    assert len(values(lines, "last", "worker")) == 1
    assert_quiet(host.stderr)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_S4_S5_a_pool_that_is_terminated_loses_nothing_if_sigterm_flushes(
    method: str, tmp_path: Path
) -> None:
    kind = f"terminated-{method}"
    arguments = ("-m", f"{APPS}.pools", kind, str(REQUESTS))
    with running(tmp_path, *arguments, TOCSIN_FLUSH_ON_SIGTERM="1") as host:
        assert host.end(None) == 0, host.stderr
        lines = host.lines()
    assert_each_once(lines)
    assert_quiet(host.stderr)


@pytest.mark.parametrize("kind", EXITS)
def test_S5_each_way_to_end_writes_what_is_waiting(kind: str, tmp_path: Path) -> None:
    with running(tmp_path, "-m", f"{APPS}.exits", kind, str(REQUESTS)) as host:
        code = host.end(None)
        lines = host.lines()
    assert sorted(values(lines, "event", "i")) == list(range(REQUESTS))
    assert sum(line.get("metric") == "last" for line in lines) == 1
    assert "Fatal Python error" not in host.stderr
    assert ("host's handler" in host.stderr) == ("handler" in kind)
    assert code == _code_without_tocsin(kind, tmp_path)


def test_S5_a_reader_that_does_not_read_delays_each_way_to_end_by_two_seconds(tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(EXITS)) as waiting:
        list(waiting.map(lambda kind: _end_before_a_stalled_reader(kind, tmp_path), EXITS))


def _end_before_a_stalled_reader(kind: str, folder: Path) -> None:
    (folder / kind).mkdir()
    with running(folder / kind, "-m", f"{APPS}.exits", kind, str(TOO_MANY_FOR_A_PIPE)) as host:
        host.reader.send_signal(signal.SIGSTOP)
        wait_for(lambda: "emitted" in host.stderr)
        started = time.monotonic()
        code = host.end(None)
        assert time.monotonic() - started < EXIT_S, kind
        host.reader.send_signal(signal.SIGCONT)
        lines = host.lines()
    numbers = values(lines, "event", "i")
    assert numbers == sorted(set(numbers))
    assert lines
    assert len(numbers) < TOO_MANY_FOR_A_PIPE, kind
    assert "Fatal Python error" not in host.stderr
    assert ("host's handler" in host.stderr) == ("handler" in kind)
    assert code == _code_without_tocsin(kind, folder / kind)


def _code_without_tocsin(kind: str, folder: Path) -> int:
    with running(folder, "-m", f"{APPS}.exits", kind, "0", WITHOUT_TOCSIN="1") as host:
        return host.end(None)


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_S5_a_reader_that_does_not_read_delays_a_server_by_two_seconds(server: str, tmp_path: Path) -> None:
    arguments = (*GUNICORN, f"{APPS}.web:wsgi") if server == "gunicorn" else UVICORN
    with serving(tmp_path, *arguments, EXTRA_EVENTS=str(TOO_MANY_FOR_A_PIPE)) as (host, port):
        host.reader.send_signal(signal.SIGSTOP)
        ask(port, range(2))
        started = time.monotonic()
        code = host.end()
        assert time.monotonic() - started < EXIT_S
        host.reader.send_signal(signal.SIGCONT)
        host.lines()
    assert code == (0 if server == "gunicorn" else -signal.SIGTERM)
    assert "Fatal Python error" not in host.stderr
