"""The runbooks of a folder: plain files, named by their ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from tocsin_server.config import Connection
from tocsin_server.errors import Fault
from tocsin_server.runbook import front
from tocsin_server.runbook.lint import lint
from tocsin_server.runbook.model import Runbook
from tocsin_server.runbook.parse import MAX_CHARS, parse


def load_runbooks(folder: Path) -> tuple[dict[str, Runbook], list[Fault]]:
    """id -> runbook, of every ``*.md`` of a folder, and all faults; a file with faults is left out.

    Only regular files directly in the folder count, never symbolic links. An id equals its file's name
    without ``.md``, in lower case, with hyphens.
    """
    read, faults = _read(folder)
    faulty = {fault.file for fault in faults}
    return {runbook.id: runbook for runbook in read if runbook.file not in faulty}, faults


def check_runbooks(
    folder: Path,
    alerts: Mapping[str, list[str]],
    connections: Mapping[str, Connection] | None,
    today: date,
) -> list[Fault]:
    """All faults of a folder's runbooks, those of reading and of :func:`lint`, sorted."""
    read, faults = _read(folder)
    found = (fault for runbook in read for fault in lint(runbook, alerts, connections, today))
    return sorted({*faults, *found})


def _read(folder: Path) -> tuple[list[Runbook], list[Fault]]:
    """Every runbook whose front matter is readable, and the faults of all."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".md")
    except OSError as error:
        return [], [Fault(str(folder), 1, f"cannot be read: {error.strerror}", "name a folder of runbooks")]
    runbooks: list[Runbook] = []
    faults: list[Fault] = []
    for path in paths:
        text, problem = _text(path, folder)
        runbook, found = parse(text, str(path)) if not problem else (None, [Fault(str(path), 1, *problem)])
        faults += found
        if runbook is not None:
            faults += _named(runbook, path, runbooks)
            runbooks.append(runbook)
    return runbooks, sorted(faults)


def _text(path: Path, folder: Path) -> tuple[str, tuple[str, str] | None]:
    """The text of a file, or what is wrong with the file."""
    if path.is_symlink() or not path.is_file() or path.resolve().parent != folder.resolve():
        return "", ("is not a regular file of this folder", "put the runbook itself here, no link")
    try:
        with path.open("rb") as stream:
            return stream.read(4 * MAX_CHARS + 1).decode("utf-8"), None
    except OSError as error:
        return "", (f"cannot be read: {error.strerror}", "check its permissions")
    except UnicodeDecodeError as error:
        return "", (f"byte {error.start} is not UTF-8", "save the file as UTF-8")


def _named(runbook: Runbook, path: Path, before: list[Runbook]) -> Iterator[Fault]:
    document = front.read(front.split(runbook.source)[0], runbook.file)[1]
    expected = path.stem.lower().replace("_", "-")
    if runbook.id != expected:
        yield document.fault(
            ("id",), f"the id `{runbook.id}` is not the file's name", f"write id: {expected}"
        )
    first = next((other for other in before if other.id == runbook.id), None)
    if first is not None:
        yield document.fault(("id",), f"duplicate id `{runbook.id}`", f"the first is in {first.file}")
