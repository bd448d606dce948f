"""A running server in a process of its own, lines sent to it at a rate, and a peer that only writes them."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import TOCSIN

_PATIENCE_S = 60.0


class Server:
    """A child that listens; ``cpu_s`` and ``rss_bytes`` are read from the system."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process, self.url = process, url

    def connection(self) -> http.client.HTTPConnection:
        """One that is kept open."""
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_PATIENCE_S)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def tocsin(folder: Path) -> Iterator[Server]:
    """``tocsin up`` on a free port, with the settings and rules that ``folder`` holds."""
    command = [TOCSIN, "up", "--port", "0", "--data", str(folder / "data")]
    with _child(command, folder) as process:
        about = folder / "data" / "run.json"
        wait(lambda: about.exists() and json.loads(about.read_text())["pid"] == process.pid)
        yield Server(process, json.loads(about.read_text())["url"])


@contextmanager
def writer(folder: Path) -> Iterator[Server]:
    """The peer: the same web server, whose handler writes the body to a file and calls ``fdatasync``."""
    port = folder / "port"
    with _child([sys.executable, "-m", "benchmarks.serving", str(port)], folder) as process:
        wait(lambda: port.exists() and port.read_text() != "")
        yield Server(process, f"http://127.0.0.1:{port.read_text()}")


@contextmanager
def _child(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        process = subprocess.Popen(command, cwd=folder, env=environ, stderr=log, stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait(true: Callable[[], object]) -> None:
    """Until a condition holds. Raises TimeoutError after a minute."""
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not get so far within a minute")
        time.sleep(0.02)


def post(connection: http.client.HTTPConnection, body: bytes) -> float:
    """Sends a batch; answers the seconds until it was acknowledged. Raises RuntimeError when it was not."""
    started = time.perf_counter()
    connection.request("POST", "/api/v1/ingest", body, {"Content-Type": "application/x-ndjson"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"a batch was refused with {answer.status}")
    return time.perf_counter() - started


def saturate(server: Server, bodies: list[bytes], senders: int, seconds: float) -> tuple[list[float], float]:
    """``senders`` connections, each sending once it is answered: the latencies, and how long it took."""
    latencies: list[list[float]] = [[] for _ in range(senders)]
    started = time.perf_counter()

    def send(number: int) -> None:
        connection, at = server.connection(), number
        while time.perf_counter() - started < seconds:
            latencies[number].append(post(connection, bodies[at % len(bodies)]))
            at += senders
        connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for each in latencies for one in each], time.perf_counter() - started


def _write_only(port_file: Path) -> None:
    """Runs the peer."""
    import socket
    from typing import Any

    import uvicorn

    lock = threading.Lock()
    fd = os.open(port_file.with_name("lines"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def keep(body: bytes) -> None:
        with lock:
            os.write(fd, body)
            os.fdatasync(fd)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        from starlette.concurrency import run_in_threadpool

        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await run_in_threadpool(keep, body)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    with socket.create_server(("127.0.0.1", 0)) as server:
        port_file.write_text(str(server.getsockname()[1]))
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    _write_only(Path(sys.argv[1]))
