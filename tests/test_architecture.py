"""Who may import whom: one list per package, each module importing only to its left.

A new module gets its place here; if no place fits, the design is asking a question.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tocsin.instrumentation import INSTRUMENTATIONS

SOURCE = Path(__file__).parents[1] / "src"

EMITTER = """
errors events values guard config context trace scrub line redact processors sinks exporters background
terminal tracebacks sigterm emitter timing auth sync jobs ai deploy instrumentation startup testing
pytest_plugin __init__ _console
"""

SERVER = """
__init__ clock errors visible durations yamlfile columns config resources sql query privacy spool chunks
dialects store state vectorised duplicates load compact sources collector outbound client probes history
rules evaluate backtest why live runbook definitions notify impact incident investigate export doctor
drill web check loops app serving summary starter demo cli
"""

ORDER = {"tocsin": EMITTER.split(), "tocsin_server": SERVER.split()}

#: What runs inside other people's applications may load this and the standard library.
EMITTER_NEEDS = {"orjson"}

#: What is imported on demand may load what it is for.
EMITTER_MAY: dict[str, set[str]] = {
    f"tocsin.instrumentation.{row.name}": {*row.imports} for row in INSTRUMENTATIONS
} | {
    "tocsin.pytest_plugin": {"pytest"},
    "tocsin.exporters.prometheus": {"prometheus_client"},
    "tocsin.exporters.opentelemetry": {"opentelemetry"},
}

#: The wire format, which both packages share; everything else of the emitter is its own business.
SHARED = {"tocsin.events", "tocsin.line"}


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file, of every module of a package; a package is named by its folder."""
    files = sorted((SOURCE / package).rglob("*.py"))
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in files}


MODULES = {
    name.removesuffix(".__init__"): path for package in ORDER for name, path in modules(package).items()
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also in functions; ``from a import b`` is ``a.b`` if that is one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            base = node.module or ""
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names)


def place(module: str) -> int:
    """Position of a module in its package's list; a folder's modules share its place."""
    package, _, rest = module.partition(".")
    step = rest.partition(".")[0] or "__init__"
    assert step in ORDER[package], f"{module} has no place in the list of {package}: give it one"
    return ORDER[package].index(step)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_to_their_left(module: str) -> None:
    package = module.partition(".")[0]
    for imported in imports(MODULES[module]):
        if imported.partition(".")[0] == package and imported != package:
            same_room = module.split(".")[1:2] == imported.split(".")[1:2]
            assert same_room or place(imported) < place(module), f"{module} imports {imported} to its right"


@pytest.mark.parametrize("package", ORDER)
def test_the_list_names_only_what_exists(package: str) -> None:
    steps = {name.split(".")[1] for name in modules(package)}
    assert [step for step in ORDER[package] if step not in steps] == []


def test_no_import_cycles() -> None:
    graph = {name: {i for i in imports(path) if i in MODULES and i != name} for name, path in MODULES.items()}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", [name for name in MODULES if name.partition(".")[0] == "tocsin"])
def test_the_emitter_needs_only_orjson(module: str) -> None:
    roots = {imported.partition(".")[0] for imported in imports(MODULES[module])}
    assert (
        roots - sys.stdlib_module_names - EMITTER_NEEDS - EMITTER_MAY.get(module, set()) - {"tocsin"} == set()
    )


@pytest.mark.parametrize("module", [name for name in MODULES if name.partition(".")[0] == "tocsin_server"])
def test_the_server_shares_only_the_wire_format(module: str) -> None:
    from_emitter = {i for i in imports(MODULES[module]) if i.partition(".")[0] == "tocsin"}
    assert from_emitter - SHARED == set()
