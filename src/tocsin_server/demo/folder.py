"""The demo's folder: the log of the last half hour, loaded, and the settings that follow it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from tocsin_server.clock import Clock
from tocsin_server.demo.morning import MINUTE_US, Morning
from tocsin_server.demo.upstream import CONNECTIONS
from tocsin_server.errors import TocsinError
from tocsin_server.load import Books, Options
from tocsin_server.sources import load_file
from tocsin_server.store import Store

#: How much of the morning has passed when the demo starts.
HISTORY_US = 30 * MINUTE_US
_HEAD = "# Written by `tocsin demo`, which removes this folder when it starts again.\n"
_SETTINGS = "tocsin.yaml"
_SERVICE, _ENVIRONMENT = "k12-core", "production"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A demo's folder: its settings, the log that goes on from ``until_us``, and the books of the load,
    which took ``seconds``.
    """

    settings: Path
    log: Path
    data: Path
    until_us: int
    books: Books
    seconds: float


def prepare(
    folder: Path, now_us: int, morning: Morning, upstream_url: str, receiver_url: str, clock: Clock
) -> Prepared:
    """Writes the half hour before ``now_us`` and the settings into ``folder``, and loads the log.

    What an earlier demo left there is removed. Raises TocsinError when the folder holds something else, when
    a demo runs in it, or when it cannot be written.
    """
    folder = folder.resolve()
    try:
        _clear(folder)
        log = folder / "logs" / "k12-core.log"
        log.parent.mkdir(parents=True)
        with log.open("wb") as file:
            file.writelines(line + b"\n" for _, line in morning.lines(now_us - HISTORY_US, now_us))
        settings = folder / _SETTINGS
        settings.write_text(_HEAD + _yaml(log, folder / "data", upstream_url, receiver_url))
    except OSError as error:
        raise TocsinError(f"the demo cannot be written to {folder}: {error.strerror}; free it") from None
    store, started = Store.create(folder / "data"), time.perf_counter()
    try:
        with store.writing():
            books = load_file(store, log, clock, Options(service=_SERVICE, environment=_ENVIRONMENT))
    finally:
        store.close()
    return Prepared(settings, log, folder / "data", now_us, books, time.perf_counter() - started)


def _clear(folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    settings = folder / _SETTINGS
    ours = settings.is_file() and settings.read_text(errors="replace").startswith(_HEAD)
    if not ours and not (folder / "manifest.db").exists():  # the demo of earlier versions was a data folder
        raise TocsinError(f"{folder} holds something else than a demo: remove it, or start elsewhere")
    for data in (folder, folder / "data"):
        if (data / "manifest.db").exists():
            store = Store.open(data)
            try:
                with store.writing():  # nobody else works on it
                    pass
            finally:
                store.close()
    shutil.rmtree(folder)


def _yaml(log: Path, data: Path, upstream_url: str, receiver_url: str) -> str:
    json_ok = {"status": 200, "json": {"status": "ok"}}
    settings = {
        "data": str(data),
        "sources": [{"file": str(log), "service": _SERVICE, "environment": _ENVIRONMENT}],
        "expect": [_SERVICE],
        "probes": [{"http": f"{upstream_url}/v1/health", "target": "ai-gateway", "expect": json_ok}],
        "connections": {name: {"http": upstream_url, "auto": True} for name in CONNECTIONS},
        "notify": {
            "channels": {"oncall": {"webhook": {"url": receiver_url}}},
            "routes": [{"severity": severity, "to": ["oncall"]} for severity in ("critical", "warning")],
        },
    }
    return yaml.safe_dump(settings, sort_keys=False)
