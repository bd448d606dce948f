"""The recorded lines of a real Rails server and its Sidekiq worker, put together to units: one request with
every line it caused, the jobs that it enqueued included.

A unit is what can be replayed at another time: line by line as it was printed, with new times and new ids.
"""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tocsin_server.clock import SECOND_US
from tocsin_server.resources import demo_lines

_TAG = re.compile(r"\[([0-9a-f]{8}-[0-9a-f-]{27})\] ")
_JOB = re.compile(r"\[ActiveJob\] \[(\w+)\] \[([0-9a-f-]{36})\]( Performing)?")
_ENQUEUED = re.compile(r"\[ActiveJob\] Enqueued \w+ \(Job ID: ([0-9a-f-]{36})\)")
_SIDEKIQ = re.compile(r"(\S+Z) pid=(\d+ tid=\w+) (?:class=(\w+) jid=(\w+) )?(.*)", re.DOTALL)
_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=jid=)[0-9a-f]{23,24}")
_TIMES = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: A unit that took longer than this is left out.
LONGEST_US = 60 * SECOND_US


@dataclass(frozen=True, slots=True)
class Unit:
    """One request and what followed: its lines, each with its distance from the first in microseconds.

    ``status`` is the HTTP status; ``error`` the class of the exception that ended it, else empty; ``text``
    everything as one text, to look for what is in it.
    """

    start_us: int
    lines: tuple[tuple[int, bytes], ...]
    controller: str
    status: int
    error: str

    @property
    def text(self) -> bytes:
        """All lines."""
        return b"\n".join(line for _, line in self.lines)

    def failed(self, event: str) -> bool:
        """Whether one of its events of this name says ``error``."""
        name, status = rb"\"metric\":\"%s\"" % event.encode(), rb"\"status\":\"error\""
        return any(name in line and status in line for _, line in self.lines)

    def replayed(self, at_us: int, rng: Random) -> Iterator[tuple[int, bytes]]:
        """The lines as they would have been printed from ``at_us`` on, ascending, with other ids."""
        shift = timedelta(microseconds=at_us - self.start_us)
        ids = {name: _fresh(name, rng) for name in dict.fromkeys(_IDS.findall(self.text))}
        for offset_us, line in self.lines:
            renamed = _IDS.sub(lambda found: ids[found[0]], line)
            yield at_us + offset_us, _TIMES.sub(lambda found: _shifted(found[0], shift), renamed)


@functools.cache
def units() -> tuple[Unit, ...]:
    """Every unit of the recording that is whole and cannot be mixed up with another, in its order."""
    grouping = _Grouping()
    for path in demo_lines():
        grouping.read(path.read_bytes().split(b"\n"))
    found = (_unit(lines) for lines in grouping.requests())
    return tuple(unit for unit in found if unit is not None)


@dataclass
class _Grouping:
    """Lines by what they belong to; who belongs to whom is read from the lines themselves.

    With request ids as log tags that is exact. Lines before the tags were switched on belong to the one
    request that is under way; requests that overlap there are left out.
    """

    lines: dict[str, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))
    parents: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)

    def read(self, lines: Sequence[bytes]) -> None:
        """Takes one file."""
        untagged, worker, now_us = _Untagged(self), _Worker(self), 0
        for line in lines:
            outer = _json_line(line)
            if outer is None:
                key, at_us = worker.key(line.decode(errors="replace"))
            else:
                message, at_us = outer
                key = self._key(message, worker, untagged)
            now_us = max(now_us, at_us or 0)
            if key is not None:
                self.lines[key].append((now_us, line))

    def requests(self) -> Iterator[list[tuple[int, bytes]]]:
        """The lines of each request with those of its jobs, in the order of their times."""
        families: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        for key, lines in self.lines.items():
            families[self._root(key)] += lines
        for root, lines in families.items():
            if root not in self.doubtful:
                yield sorted(lines, key=lambda line: line[0])

    def _key(self, message: str, worker: _Worker, untagged: _Untagged) -> str | None:
        job = _JOB.match(message)
        if job:
            if job[3]:
                worker.performing(job[1], job[2])
            return job[2]
        tag = _TAG.match(message)
        key = tag[1] if tag else untagged.key(message)
        enqueued = _ENQUEUED.search(message)
        if enqueued and key is not None:
            self.parents[enqueued[1]] = key
        return key

    def _root(self, key: str) -> str:
        while key in self.parents:
            key = self.parents[key]
        return key


@dataclass
class _Untagged:
    """Lines without a tag: they belong to the request that is under way, if it is alone."""

    grouping: _Grouping
    open: list[str] = field(default_factory=list)
    last: str | None = None
    count: int = 0

    def key(self, message: str) -> str | None:
        if message.startswith("Started "):
            self.count += 1
            self.open.append(f"request {self.count}")
            if len(self.open) > 1:
                self.grouping.doubtful.update(self.open)
        if message.startswith('{"metric":"api.request"'):
            return self.last  # printed right behind the request's own line, by which it ended
        key = self.open[0] if self.open else None
        if message.startswith('{"request_id"') and self.open:
            self.last = self.open.pop(0)
        return key


@dataclass
class _Worker:
    """Plain lines of Sidekiq: a thread runs one job at a time; its back traces have no thread."""

    grouping: _Grouping
    waiting: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    running: dict[str, str] = field(default_factory=dict)
    tracing: str | None = None

    def performing(self, job_class: str, job_id: str) -> None:
        """The framework takes up the job that Sidekiq started."""
        if self.waiting[job_class]:
            self.grouping.parents[self.waiting[job_class].popleft()] = job_id

    def key(self, line: str) -> tuple[str | None, int | None]:
        """(what a plain line belongs to, its time)."""
        found = _SIDEKIQ.fullmatch(line)
        if found is None:
            return self.tracing, None
        at, thread, job_class, jid, rest = found.groups()
        if jid is not None:
            self.running[thread] = jid
            if rest.endswith("start"):
                self.waiting[job_class].append(jid)
        key = self.running.get(thread)
        self.tracing = key if rest.startswith("WARN: /") else None
        return key, _micros(at)


def _json_line(line: bytes) -> tuple[str, int] | None:
    """(message, time) of a line of the Rails logger."""
    if not line.startswith(b'{"timestamp"'):
        return None
    try:
        outer: Mapping[str, Any] = json.loads(line)
        return str(outer["message"]), _micros(outer["timestamp"])
    except (ValueError, KeyError):
        return None


def _unit(lines: list[tuple[int, bytes]]) -> Unit | None:
    """The unit of these lines, if it is one request from its first to its last line."""
    start_us = lines[0][0]
    messages = [outer[0] for _, line in lines if (outer := _json_line(line))]
    first = _TAG.sub("", messages[0]) if messages else ""
    answered = [m for m in messages if '"metric":"api.request"' in m]
    if not first.startswith("Started ") or len(answered) != 1 or lines[-1][0] - start_us > LONGEST_US:
        return None
    tags = json.loads(answered[0][answered[0].index("{") :])["tags"]
    moved = tuple((at_us - start_us, line) for at_us, line in lines)
    return Unit(start_us, moved, tags["controller"], tags["status"], _error(messages))


def _error(messages: Iterable[str]) -> str:
    """Class of the exception that nobody handled: Rails prints it alone on a line, then its text."""
    for message in messages:
        found = re.match(r"  \n(?:\[[^\]]+\] )?([A-Z][\w:]+) \(", _TAG.sub("", message, count=1))
        if found:
            return found[1]
    return ""


def _fresh(name: bytes, rng: Random) -> bytes:
    """Another id of the same form."""
    return re.sub(rb"[0-9a-f]", lambda _: b"%x" % rng.randrange(16), name)


def _micros(timestamp: str) -> int:
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)


def _shifted(timestamp: bytes, shift: timedelta) -> bytes:
    """The time moved, as exact as it was written."""
    moved = (datetime.fromisoformat(timestamp.decode()) + shift).isoformat(chr(timestamp[10]), "microseconds")
    return moved[: len(timestamp)].encode()
