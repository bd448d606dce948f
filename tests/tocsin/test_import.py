"""What ``import tocsin`` may load and do."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

import tocsin

OURS = """tocsin tocsin.background tocsin.config tocsin.context tocsin.emitter tocsin.errors tocsin.events
tocsin.exporters tocsin.guard tocsin.instrumentation tocsin.line tocsin.processors tocsin.redact tocsin.scrub
tocsin.sigterm tocsin.sinks tocsin.sinks.stdout tocsin.startup tocsin.timing tocsin.values"""
#: Standard library modules that are slow to load, or that would mean that something was opened or started.
UNWANTED = {
    "logging",
    "asyncio",
    "socket",
    "ssl",
    "http",
    "urllib.request",
    "email",
    "sqlite3",
    "subprocess",
    "queue",
}


def _after(code: str) -> list[str]:
    """Lines printed by ``code`` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before, sep='\\n')"
    return set(_after(code))


def test_import_loads_the_standard_library_and_orjson_and_nothing_else() -> None:
    extra = _loaded_by("import tocsin") - _loaded_by("import orjson")
    assert {name for name in extra if name.partition(".")[0] not in sys.stdlib_module_names} == set(
        OURS.split()
    )


def test_import_loads_nothing_that_opens_or_starts_something() -> None:
    assert _loaded_by("import tocsin").isdisjoint(UNWANTED)


def test_only_requirement_is_orjson() -> None:
    required = [line for line in metadata.requires("tocsin") or [] if "extra ==" not in line]
    assert [re.match(r"[\w-]+", line)[0] for line in required] == ["orjson"]


def test_import_and_configure_open_nothing_and_start_no_thread() -> None:
    code = """
import os, sys, threading
def descriptors(): return sorted(os.listdir('/dev/fd'))
import orjson
before, excepthook, stdout = descriptors(), sys.excepthook, sys.stdout
import tocsin
tocsin.configure(service='k12-core')
assert descriptors() == before
assert threading.active_count() == 1
assert sys.excepthook is excepthook and sys.stdout is stdout
"""
    assert _after(code) == []


def test_the_public_api_stands_on_one_screen() -> None:
    assert tocsin.__all__ == [
        "__version__", "annotate", "bind", "configure", "emit", "flush", "instrument", "log", "timed",
    ]  # fmt: skip
    assert all(getattr(tocsin, name).__doc__ for name in tocsin.__all__)


def test_version_is_that_of_the_distribution() -> None:
    assert tocsin.__version__ == metadata.version("tocsin")
