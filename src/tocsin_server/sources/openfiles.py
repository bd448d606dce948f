"""Which files are open, and what is remembered of those that are not."""

from __future__ import annotations

import os
import resource
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tocsin_server.clock import SECOND_US
from tocsin_server.config import FileSource
from tocsin_server.errors import TocsinError
from tocsin_server.sources.checkpoint import Checkpoint, Identity, generation
from tocsin_server.sources.discovery import Found, Listing, discover, source_name
from tocsin_server.sources.reader import Reader

#: A rotated or removed file is read on for as long as its writer may still have it open.
LINGER_US = 5 * SECOND_US
#: Rotated files of one source that are held open (reliability table 2, case 18).
MAX_ROTATED = 8

#: After a change a file is read in every round for so long: two changes at once may leave the same time.
_QUIET_US = SECOND_US
_FIRST_RETRY_US = SECOND_US // 4
_LAST_RETRY_US = 4 * SECOND_US
#: Files that are remembered; far more than any installation rotates while a process runs.
_MAX_PARKED = 10_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something does not work, and when it is tried again (µs)."""

    message: str
    retries: int
    retry_at: int

    @classmethod
    def after(cls, before: Trouble | None, error: Exception, now: int) -> Trouble:
        """The next one in a row; the pause doubles from a quarter of a second to four."""
        retries = before.retries + 1 if before else 0
        message = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        return cls(message, retries, now + min(_LAST_RETRY_US, _FIRST_RETRY_US << min(retries, 10)))


@dataclass(slots=True, eq=False)
class OpenFile:
    """A file that is open, with times in µs. ``rotated_at``: since when it no longer has the name of its
    source. ``signature``: what it looked like when it was last read (None: read it again).
    """

    reader: Reader
    settings: FileSource
    source: str
    path: str
    changed_at: int
    signature: tuple[int, int] | None = None
    rotated_at: int | None = None
    last_read_at: int | None = None
    trouble: Trouble | None = None

    def is_quiet(self, now: int) -> bool:
        """Whether nothing can be new as long as the signature stays the same."""
        return now - self.changed_at > _QUIET_US and not self.reader.has_more

    def is_over(self, now: int) -> bool:
        """Whether nobody writes to it any more: rotated or removed, and idle for five seconds."""
        if self.rotated_at is None or self.reader.has_more:
            return False
        return now - max(self.rotated_at, self.changed_at) >= LINGER_US

    def is_read(self) -> bool:
        """Whether it is read to its end, as it is now."""
        return self.signature is not None and not self.reader.grew()

    def locate(self, found: Found | None, now: int) -> None:
        """Notes where the file is now (None: nowhere)."""
        if found:
            self.path = found.path
        if found and source_name(found.path) == self.source:
            self.rotated_at = None
        elif self.rotated_at is None:
            self.rotated_at = now


@dataclass(frozen=True, slots=True)
class Parked:
    """A file that is known but not open; it is opened again when its signature is another one."""

    checkpoint: Checkpoint
    size: int
    signature: tuple[int, int] | None = None
    closed_at: int = 0

    def is_unchanged(self, found: Found) -> bool:
        """Whether there is nothing to read. A rotated file only grows; its time changes with its name."""
        is_rotated = source_name(found.path) != self.checkpoint.source
        if is_rotated and self.size == self.checkpoint.offset:
            return found.signature[0] == self.size
        return found.signature == self.signature

    def is_same_file(self, fd: int, found: Found) -> bool:
        """Whether it is this file, whatever it holds by now, and not another one with the same inode. Where
        the file system does not tell, the path does.
        """
        point = self.checkpoint
        if point.generation != generation(fd):
            return False
        return point.generation != 0 or point.path == source_name(found.path)


class OpenFiles:
    """The files that ``sources`` name, opened where ``checkpoints`` and ``known`` say; see :class:`Tail`.

    ``files`` are in the order in which they are read, the generations of a log oldest first. ``troubles`` are
    by path. At most half of the process's file descriptors are used.
    """

    def __init__(
        self,
        sources: Sequence[FileSource],
        checkpoints: Iterable[Checkpoint],
        known: Callable[[int, int], int],
        counters: Counter[str],
    ) -> None:
        self.files: dict[Identity, OpenFile] = {}
        self.parked = {point.identity: Parked(point, point.offset) for point in checkpoints}
        self.troubles: dict[str, Trouble] = {}
        self.listing = Listing([], {})
        self._sources = sources
        self._known = known
        self._counters = counters
        self._max_open = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def discover(self, now: int) -> bool:
        """Looks for files that are new, renamed or gone. False when a file turned out to be another one than
        it was taken for: look again.
        """
        names = {identity: parked.checkpoint.source for identity, parked in self.parked.items()}
        names |= {identity: file.source for identity, file in self.files.items()}
        self.listing = discover(self._sources, names)
        here = {found.identity: found for found in self.listing.found}
        for identity, file in self.files.items():
            file.locate(here.get(identity), now)
        self._park_surplus(now)
        is_right = self._open_new(now)
        for path, error in self.listing.failures.items():
            self._fail(path, error, now)
        failing = {found.path for found in self.listing.found if found.identity not in self.files}
        failing |= self.listing.failures.keys()
        self.troubles = {path: trouble for path, trouble in self.troubles.items() if path in failing}
        self._count_vanished(here)
        return is_right

    def give_up(self, file: OpenFile, error: OSError, now: int) -> None:
        """Closes a file that cannot be read; it is opened again later."""
        self._fail(file.path, error, now)
        file.signature = None
        self.park(file, now)

    def park(self, file: OpenFile, now: int) -> None:
        """Closes a file and remembers it, unless nobody can open it again."""
        reader = file.reader
        del self.files[reader.identity]
        is_removed = _is_removed(reader.fd)
        os.close(reader.fd)
        if is_removed:
            self._counters["tail_bytes_lost_total"] += reader.unread_bytes
            return
        point = reader.checkpoint(source_name(file.path), file.source)
        self.parked[reader.identity] = Parked(
            point, reader.size, file.signature if file.is_quiet(now) else None, now
        )
        if len(self.parked) > _MAX_PARKED:
            del self.parked[next(iter(self.parked))]

    def count_anew(self, *, shrank: bool, lost_bytes: int) -> None:
        """Counts a file that was truncated or written anew."""
        self._counters["tail_truncations_total"] += 1
        self._counters["tail_rewrites_total"] += not shrank
        self._counters["tail_bytes_lost_total"] += lost_bytes

    def close(self) -> None:
        """Closes all."""
        for file in self.files.values():
            os.close(file.reader.fd)
        self.files.clear()

    # Opening

    def _open_new(self, now: int) -> bool:
        """Opens what is new or has changed; where not all can be open, what was closed longest ago."""
        news = [found for found in self.listing.found if self._is_news(found, now)]
        if len(news) + len(self.files) > self._max_open:
            news.sort(key=lambda found: self._closed_at(found.identity))
        waiting: set[str] = set()  # the generations of a log are read in their order
        for found in news:
            source = self._source(found)
            if source in waiting or not self._make_room(found, source, now):
                waiting.add(source)
                self._set_aside(found, now)
            elif not self._open(found, now):
                return False
        return True

    def _set_aside(self, found: Found, now: int) -> None:
        """Remembers a file that has to wait, so that it counts if it vanishes before it is read."""
        parked = self.parked.get(found.identity)
        if parked:
            self.parked[found.identity] = replace(parked, size=found.signature[0], signature=None)
        elif self._open(found, now) and found.identity in self.files:
            self.park(self.files[found.identity], now)

    def _source(self, found: Found) -> str:
        parked = self.parked.get(found.identity)
        return parked.checkpoint.source if parked else found.source

    def _is_news(self, found: Found, now: int) -> bool:
        parked, trouble = self.parked.get(found.identity), self.troubles.get(found.path)
        is_unchanged = parked is not None and parked.is_unchanged(found)
        is_due = trouble is None or now >= trouble.retry_at
        return found.identity not in self.files and not is_unchanged and is_due

    def _closed_at(self, identity: Identity) -> int:
        parked = self.parked.get(identity)
        return parked.closed_at if parked else 0

    def _make_room(self, found: Found, source: str, now: int) -> bool:
        """Whether one more may be open; closes one that is read to its end if it must."""
        rotated = self._rotated(source) if source_name(found.path) != source else []
        if len(rotated) >= MAX_ROTATED:
            return self._park_one(rotated[:1], now)
        if len(self.files) >= self._max_open:
            return self._park_one(sorted(self.files.values(), key=lambda file: file.changed_at), now)
        return True

    def _park_one(self, files: Iterable[OpenFile], now: int) -> bool:
        file = next((file for file in files if file.is_read()), None)
        if file:
            self.park(file, now)
        return file is not None

    def _open(self, found: Found, now: int) -> bool:
        """Opens a file if that is possible; False when it is not the one that it was taken for."""
        try:
            fd = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._fail(found.path, error, now)
            return True
        try:
            file = self._begin(fd, found, now)
        except (OSError, TocsinError) as error:
            self._fail(found.path, error, now)
            os.close(fd)
            return True
        if file is None:
            os.close(fd)
            return False
        self.files[file.reader.identity] = file
        return True

    def _begin(self, fd: int, found: Found, now: int) -> OpenFile | None:
        """The open file at the place where reading goes on; None if it is not the one that was found."""
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != found.identity or not stat.S_ISREG(status.st_mode):
            return None
        parked, source = self._remembered(found), found.source
        if parked:
            point, is_same = parked.checkpoint, parked.is_same_file(fd, found)
            fits = point.fits(fd)
            del self.parked[point.identity]
            if fits:
                return _begun(fd, point.offset, point.source, found, now)
            self._count_misfit(parked, is_same=is_same, size=status.st_size)
            if not found.is_named and not is_same:
                return None
            source = point.source if is_same else found.source
        offset = min(status.st_size, self._known(fd, status.st_size))
        return _begun(fd, offset, source, found, now)

    def _remembered(self, found: Found) -> Parked | None:
        """What is known of a file; the number of a device may be another one since the machine started."""
        path, inode = source_name(found.path), found.identity[1]
        return self.parked.get(found.identity) or next(
            (p for p in self.parked.values() if (p.checkpoint.path, p.checkpoint.inode) == (path, inode)),
            None,
        )

    # Closing

    def _rotated(self, source: str) -> list[OpenFile]:
        """Open generations of a log, in the order in which they can be spared: those read to their end, the
        oldest first, then the others, the youngest first.
        """
        rotated = [f for f in self.files.values() if f.source == source and f.rotated_at is not None]
        unread = [file for file in rotated if not file.is_read()]
        return [file for file in rotated if file not in unread] + unread[::-1]

    def _park_surplus(self, now: int) -> None:
        for source in {file.source for file in self.files.values() if file.rotated_at is not None}:
            rotated = self._rotated(source)
            for file in rotated[: max(0, len(rotated) - MAX_ROTATED)]:
                self.park(file, now)

    # Counting

    def _count_misfit(self, parked: Parked, *, is_same: bool, size: int) -> None:
        """A file does not hold what was read of it: it was written anew, or is another one."""
        offset = parked.checkpoint.offset
        lost = max(0, parked.size - offset)
        if is_same:
            self.count_anew(shrank=size < offset, lost_bytes=lost)
        else:
            self._counters["tail_bytes_lost_total"] += lost

    def _count_vanished(self, here: Mapping[Identity, Found]) -> None:
        """Counts what was left to read of closed files that are gone."""
        for identity, parked in self.parked.items():
            unread = parked.size - parked.checkpoint.offset
            if identity not in here and unread > 0:
                self._counters["tail_bytes_lost_total"] += unread
                self.parked[identity] = replace(parked, size=parked.checkpoint.offset)

    def _fail(self, path: str, error: Exception, now: int) -> None:
        before = self.troubles.get(path)
        if before is None or now >= before.retry_at:
            self._counters["tail_errors_total"] += 1
            self.troubles[path] = Trouble.after(before, error, now)


def _begun(fd: int, offset: int, source: str, found: Found, now: int) -> OpenFile:
    file = OpenFile(Reader(fd, offset), found.settings, source, found.path, changed_at=now)
    file.locate(found, now)
    return file


def _is_removed(fd: int) -> bool:
    try:
        return os.fstat(fd).st_nlink == 0
    except OSError:
        return False
