"""Which files there are to follow: what the settings name, and what those files were renamed to.

Rotated files are found by what they are (device and inode), under any name in their folder. A file that was
never seen before is followed if the settings name it, or if its name says that it is a rotated one *younger*
than one that was seen: it came and went while nobody looked. Older ones are history, for ``tocsin ingest``.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from tocsin_server.config import FileSource
from tocsin_server.sources.checkpoint import Identity

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")

#: ``app.log.1``, ``app.log-20261123``, ``app.2026-11-23_07-55.log``: stem, mark, extension.
_ROTATED = re.compile(r"(.+?)[.-](\d[\d.T:_-]*)(\.[A-Za-z]\w*)?", re.ASCII | re.DOTALL)
_NUMBER_DIGITS = 4

#: Most paths are the same each time that they are looked at.
_CACHED_PATHS = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """A file to follow: where it is now, and the name that its lines have if it is new. ``signature`` is
    different after each change; ``is_named``: the settings name it, it was not found by what it is.
    """

    path: str
    identity: Identity
    signature: tuple[int, int]
    source: str
    settings: FileSource
    is_named: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """All files to follow, rotated ones first and the oldest of them first; paths that could not be looked
    at, with the reason.
    """

    found: list[Found]
    failures: dict[str, OSError]


def discover(sources: Sequence[FileSource], known: Mapping[Identity, str]) -> Listing:
    """Looks at the file system; ``known`` are the files seen before, with the names of their lines."""
    listing = Listing([], {})
    live = _live(sources, listing.failures)
    taken = {found.identity: found for found in sorted(live.values(), key=_age)}
    for settings in sources:
        logs = {path for path, found in live.items() if found.settings is settings}
        logs |= {source for source in known.values() if _covers(_pattern(settings), source)}
        for found in _rotated(settings, logs, known, listing.failures):
            if taken.setdefault(found.identity, found) is found:
                listing.found.append(found)
    listing.found.extend(found for found in taken.values() if found.is_named)
    return listing


def signature(status: os.stat_result) -> tuple[int, int]:
    """Size in bytes and time of the last change, which nobody can set."""
    return status.st_size, status.st_ctime_ns


@lru_cache(_CACHED_PATHS)
def source_name(path: str) -> str:
    """The path as text, also when it is not valid Unicode: the name that ``tocsin ingest`` gives it."""
    return os.fsencode(os.path.normpath(path)).decode("utf-8", "backslashreplace")


def _pattern(settings: FileSource) -> str:
    return source_name(str(settings.file))


def _matches(settings: FileSource) -> set[str]:
    pattern = str(settings.file)
    paths = glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else [pattern]
    return {os.path.normpath(path) for path in paths if not path.endswith(_COMPRESSED)}


def _live(sources: Sequence[FileSource], failures: dict[str, OSError]) -> dict[str, Found]:
    """What the settings name, by path. A pattern may match rotated files too: they belong to their log."""
    live: dict[str, Found] = {}
    for settings in sources:
        paths = _matches(settings)
        for path in sorted(paths):
            log = _log_of(path)
            is_rotated = log in paths and path.startswith(log)
            name = source_name(log if is_rotated else path)
            if path not in live and (found := _look(path, name, settings, failures, is_named=True)):
                live[path] = found
    return live


def _look(
    path: str, name: str, settings: FileSource, failures: dict[str, OSError], *, is_named: bool
) -> Found | None:
    """The regular file at a path, through symbolic links; None if there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        failures[path] = error
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(path, (status.st_dev, status.st_ino), signature(status), name, settings, is_named)


def _rotated(
    settings: FileSource, logs: set[str], known: Mapping[Identity, str], failures: dict[str, OSError]
) -> Iterator[Found]:
    """Known files under any name in the folders of ``logs``, and unknown ones that are younger than one."""
    inodes = {inode for _device, inode in known}
    generations: dict[str, list[Found]] = {}
    for folder in sorted({os.path.dirname(log) for log in logs}):
        for name, inode in _entries(folder, failures):
            path = os.path.join(folder, name)
            log = _log_of(path)
            if path in logs or name.endswith(_COMPRESSED) or (inode not in inodes and log not in logs):
                continue
            if found := _look(path, source_name(log), settings, failures, is_named=False):
                generations.setdefault(log, []).append(found)
    for log in sorted(generations):
        younger = False
        for found in sorted(generations[log], key=_age):
            source = known.get(found.identity)
            younger = younger or source == source_name(log)
            if younger if source is None else _covers(_pattern(settings), source):
                yield found


def _entries(folder: str, failures: dict[str, OSError]) -> list[tuple[str, int]]:
    try:
        with os.scandir(folder or ".") as entries:
            return [(entry.name, entry.inode()) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        failures[folder] = error
        return []


@lru_cache(_CACHED_PATHS)
def _covers(pattern: str, source: str) -> bool:
    """Whether the pattern matches a name, also of a file that is not there now."""
    return any(fnmatchcase(source, form) for form in (pattern, pattern.replace("**/", "")))


@lru_cache(_CACHED_PATHS)
def _log_and_age(path: str) -> tuple[str, tuple[int, int, str]]:
    """The name that a rotated file had before (the path itself if it does not look like one), and what sorts
    the generations of a log, the oldest first: by date, then by falling number, then the log.
    """
    folder, name = os.path.split(path)
    match = _ROTATED.fullmatch(name)
    if match is None:
        return path, (2, 0, "")
    log, mark = os.path.join(folder, match[1] + (match[3] or "")), match[2]
    if mark.isdigit() and len(mark) <= _NUMBER_DIGITS:
        return log, (1, -int(mark), "")
    return log, (0, 0, mark)


def _log_of(path: str) -> str:
    return _log_and_age(path)[0]


def _age(found: Found) -> tuple[str, tuple[int, int, str]]:
    return _log_and_age(found.path)
