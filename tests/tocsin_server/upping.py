"""``tocsin up`` as people run it: a real process on a folder, to be asked, stopped and killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOCSIN = [sys.executable, "-c", "import sys; from tocsin_server.cli import main; sys.exit(main())"]


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What a condition gives when it holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


class Running:
    """A server process on a folder; :meth:`wait` until it answers. ``command`` is what runs ``tocsin``."""

    def __init__(self, folder: Path, *arguments: str, command: Sequence[str] = TOCSIN) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._errors = (folder / "stderr").open("ab")
        started = [*command, "up", "--port", "0", "--data", str(self.data), *arguments]
        self.process = subprocess.Popen(started, cwd=folder, stderr=self._errors, stdin=subprocess.DEVNULL)
        self.url = self.token = ""

    def wait(self) -> None:
        """Until the server can be asked."""
        about = until(self._about)
        self.url, self.token = about["url"], about["token"]

    def _about(self) -> Any:
        assert self.process.poll() is None, (self.folder / "stderr").read_text()
        try:
            about = json.loads((self.data / "run.json").read_text())
        except (OSError, ValueError):
            return None
        return about if about["pid"] == self.process.pid else None

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        request = urllib.request.Request(self.url + path, body or None, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def post(self, lines: bytes, **headers: str) -> Any:
        return self.ask(
            "POST", "/api/v1/ingest", lines, **{"Content-Type": "application/x-ndjson", **headers}
        )

    def tocsin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TOCSIN, *arguments, "--data", str(self.data)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(20)
        self._errors.close()
        return code


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    server = Running(folder, *arguments)
    try:
        server.wait()
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)
