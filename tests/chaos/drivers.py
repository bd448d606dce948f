"""What loads a server: senders that send again until they are answered, a program that writes a log, somebody
who asks; and the nemesis that kills the server meanwhile.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from tests.chaos.oracle import Batch, http_batch
from tests.tocsin_server.upping import Running, until

ROOT = Path(__file__).parents[2]

#: Of the requests, so many are cut off before the answer is read, and so many batches come again later.
LOST_ANSWERS, LATE_REPEATS = 0.1, 0.1
_GIVE_UP_S = 60.0
#: A server that refuses or is away is asked again after this, as is one that answers.
_PAUSE_S = 0.02


class HttpSender(threading.Thread):
    """One sender: batches in their order, each until it is acknowledged, some again much later.

    ``acknowledged`` are the batches with a 2xx, ``faults`` what was answered wrongly.
    """

    def __init__(self, data: Path, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.acknowledged: list[Batch] = []
        self.faults: list[str] = []
        self._data, self._random = data, random.Random(f"{seed}-{name}")
        self._over = threading.Event()
        self._until = float("inf")

    @property
    def stored(self) -> int:
        """Events that were acknowledged so far."""
        return sum(batch.answer["stored"] for batch in self.acknowledged)

    def run(self) -> None:
        """Sends until told to stop."""
        while not self._over.is_set():
            batch = http_batch(self.name, len(self.acknowledged))
            if not self._deliver(batch):
                self.faults.append(f"{batch.key} was never acknowledged")
                return
            self.acknowledged.append(batch)
            if self._random.random() < LATE_REPEATS:
                self._deliver(self._random.choice(self.acknowledged))

    def finish(self) -> None:
        """Lets the last batch be acknowledged, at most for a minute."""
        self._until = time.monotonic() + _GIVE_UP_S
        self._over.set()
        self.join()

    def _deliver(self, batch: Batch) -> bool:
        while time.monotonic() < self._until:
            answer = self._post(batch, reads=self._random.random() >= LOST_ANSWERS)
            time.sleep(_PAUSE_S)
            if answer is not None:
                if answer != batch.answer:
                    self.faults.append(f"{batch.key} was answered {answer} in place of {batch.answer}")
                return True
        return False

    def _post(self, batch: Batch, *, reads: bool) -> dict[str, Any] | None:
        """The answer; None when there was none, or the server said to come again."""
        try:
            url = urlsplit(json.loads((self._data / "run.json").read_text())["url"])
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
        except (OSError, ValueError):
            return None
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": batch.key}
        try:
            connection.request("POST", f"/api/v1/ingest?source={self.name}", batch.data, headers)
            if not reads:
                time.sleep(self._random.uniform(0, 0.03))
                return None
            response = connection.getresponse()
            body = json.loads(response.read())
            if response.status == 200:
                return dict(body)
            if response.status not in (429, 503):
                self.faults.append(f"{batch.key} was answered {response.status}: {body}")
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            connection.close()
        return None


class LogWriter:
    """The program that writes a log; see :mod:`tests.chaos.writer`."""

    def __init__(self, log: Path, per_s: int, rotate_every: int, scheme: str, seed: int, *lines: int) -> None:
        self._log = log
        self._given = [str(log), *map(str, (per_s, rotate_every, scheme, seed, *lines))]
        self._process: subprocess.Popen[str] | None = None

    def begin(self, server: Running) -> None:
        """Starts, once; returns when the server has the first line. What a log's rotated files held before
        Tocsin had seen the log is history.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.writer", *self._given],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            until(lambda: count(server, f"source = '{self._log}'"))

    @property
    def is_done(self) -> bool:
        """Whether all is written."""
        return self._process is not None and self._process.poll() is not None

    def finish(self) -> tuple[int, int]:
        """Tells it to stop; how many lines it wrote, and how often it rotated."""
        assert self._process is not None
        said, _ = self._process.communicate()
        written, rotations = said.split()
        return int(written), int(rotations)

    def kill(self) -> None:
        """Ends it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


class Asker(threading.Thread):
    """Asks for all events all the time: every event that was acknowledged before must be counted.

    Each question makes the server seal what is in its spool, so kills meet that too.
    """

    def __init__(self, acknowledged: Callable[[], int], pause_s: float) -> None:
        super().__init__(name="asker", daemon=True)
        self.server: Running | None = None
        self.faults: list[str] = []
        self.answers = 0
        self._acknowledged, self._pause_s = acknowledged, pause_s
        self._over = threading.Event()

    def run(self) -> None:
        """Asks until told to stop."""
        while not self._over.wait(self._pause_s):
            server, before = self.server, self._acknowledged()
            if server is None or not server.url:
                continue
            try:
                counted = count(server)
            except (OSError, http.client.HTTPException, ValueError):
                continue
            self.answers += 1
            if counted < before:
                self.faults.append(f"{before} events were acknowledged, and {counted} could be seen")

    def finish(self) -> None:
        """Asks no more."""
        self._over.set()
        self.join()


def count(server: Running, where: str = "true") -> int:
    """How many events a question counts."""
    sql = f"SELECT count(*) AS n FROM events WHERE {where}"
    asked = json.dumps({"sql": sql}).encode()
    answer = server.ask("POST", "/api/v1/query", asked, **{"Content-Type": "application/json"})
    return int(answer["rows"][0][0])


@dataclass(slots=True)
class Nemesis:
    """Kills a server at random moments, some of them while it starts; now and then it only asks it to stop.

    ``ready_s``: how long each start took until the server was ready (s).
    """

    folder: Path
    command: list[str]
    seed: int
    longest_s: float = 1.5
    kills: int = 0
    stops: int = 0
    ready_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def rage(self, kills: int, meanwhile: Callable[[Running], None] = lambda _server: None) -> None:
        """Starts and kills until so many were killed; ``meanwhile`` hears of each server that is ready."""
        chance = random.Random(self.seed)
        while self.kills < kills:
            server = Running(self.folder, command=self.command)
            try:
                if self.kills and chance.random() < 0.2:
                    time.sleep(chance.uniform(0.5, 2.0))
                else:
                    self._wait(server)
                    meanwhile(server)
                    time.sleep(chance.uniform(0, self.longest_s))
                if chance.random() < 0.15 and server.url:
                    self._stop(server)
                    continue
            finally:
                if server.process.poll() is None:
                    server.end(signal.SIGKILL)
            self.kills += 1

    @contextmanager
    def heal(self) -> Iterator[Running]:
        """A server that is not killed, and stopped at the end."""
        server = Running(self.folder, command=self.command)
        try:
            self._wait(server)
            yield server
            self._stop(server)
        finally:
            if server.process.poll() is None:
                server.end(signal.SIGKILL)

    def _wait(self, server: Running) -> None:
        started = time.monotonic()
        server.wait()
        until(lambda: _is_ready(server))
        self.ready_s.append(time.monotonic() - started)

    def _stop(self, server: Running) -> None:
        started = time.monotonic()
        code = server.end(signal.SIGTERM)
        took = time.monotonic() - started
        self.stops += 1
        if code != 0 or took > 10:
            self.faults.append(f"SIGTERM: exit code {code} after {took:.1f} s")


def _is_ready(server: Running) -> bool:
    try:
        server.ask("GET", "/readyz")
    except (URLError, OSError):
        return False
    return True


def settle(counted: Callable[[], int], expected: int, patience_s: float) -> None:
    """Waits until everything is there, or nothing more has come for a while."""
    last, moved = -1, time.monotonic()
    while (now := counted()) < expected and time.monotonic() - moved < patience_s:
        if now != last:
            last, moved = now, time.monotonic()
        time.sleep(0.2)


def kills_wanted(default: int) -> int:
    """How many kills: few in every run, as many as ``CHAOS_KILLS`` says in a long one."""
    return int(os.environ.get("CHAOS_KILLS", default))
